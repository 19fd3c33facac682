// Data, heat, and the viewer of pairs. Data arrive as scripts that push onto `captumShared`, before or after this one.

const store = { index: null, units: null, neurons: new Map() }, KEPT = 30; // neurons whose maps stay in memory
const receive = ([kind, key, value]) => (kind === "neuron" ? store.neurons.set(key, value) : Object.assign(store, { [kind]: value }));

function loadNeuron(number) {
  if (store.neurons.has(number)) return Promise.resolve(store.neurons.get(number));
  return new Promise((resolve, reject) => {
    const script = make("script", { src: `data/neuron_${number}.js` });
    script.onload = () => {
      script.remove();
      if (store.neurons.size > KEPT) store.neurons.delete(store.neurons.keys().next().value);
      resolve(store.neurons.get(number));
    };
    script.onerror = () => reject(new Error(`data/neuron_${number}.js is missing beside this page`));
    document.head.append(script);
  });
}

const bytes = (code) => Uint8Array.from(atob(code), (letter) => letter.charCodeAt(0));

// An array as written by `quantized`: { shape, top, values }.
function unpack([shape, top, code]) {
  return { shape, top, values: Float32Array.from(bytes(code), (level) => top * (level / 255) ** 2) };
}

// Weights of the cubic B-spline that spreads n cells over `size` pixels: smooth and never negative.
const splines = new Map();
function spline(n, size) {
  const key = `${n} ${size}`;
  if (!splines.has(key)) {
    splines.set(key, Array.from({ length: size }, (_, pixel) => {
      const at = ((pixel + 0.5) * n) / size - 0.5, first = Math.floor(at) - 1, t = at - Math.floor(at);
      const weights = [(1 - t) ** 3, 3 * t ** 3 - 6 * t ** 2 + 4, -3 * t ** 3 + 3 * t ** 2 + 3 * t + 1, t ** 3];
      return weights.map((weight, i) => [between(first + i, 0, n - 1), weight / 6]);
    }));
  }
  return splines.get(key);
}

function spread({ shape: [h, w], values }, size) {
  const wide = new Float32Array(h * size), whole = new Float32Array(size * size);
  spline(w, size).forEach((taps, x) => {
    for (let row = 0; row < h; row++) for (const [i, weight] of taps) wide[row * size + x] += weight * values[row * w + i];
  });
  spline(h, size).forEach((taps, y) => {
    for (const [i, weight] of taps) for (let x = 0; x < size; x++) whole[y * size + x] += weight * wide[i * size + x];
  });
  return whole;
}

const withPeak = (grid) => ({ ...grid, peak: spread(grid, 160).reduce((a, b) => Math.max(a, b), 0) }); // as it is drawn
function paint(canvas, grid, top, colours, size = 160) {
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d"), pixels = context.createImageData(size, size);
  spread(grid, size).forEach((value, i) => {
    const level = top > 0 ? between(Math.round((255 * value) / top), 0, 255) : 0;
    pixels.data.set(colours.subarray(4 * level, 4 * level + 4), 4 * i);
  });
  context.putImageData(pixels, 0, 0);
}

// The colours of heat as they look over mid-grey.
function gradient(colours) {
  const stops = Array.from({ length: 32 }, (_, i) => `rgba(${[...colours.subarray(32 * i, 32 * i + 3), colours[32 * i + 3] / 255]})`);
  return `linear-gradient(90deg, ${stops}), #969696`;
}

const SIDES = ["driver", "reference"];

class Viewer {
  constructor(index) {
    Object.assign(this, { index, references: [], neuron: 0, pair: 0, reference: 0, kind: 0, rule: 0, pick: null, hover: null, turns: 0 });
    this.colours = bytes(index.colours);
    this.sides = SIDES.map((name, side) => this.side(name, side));
    byId("sides").replaceChildren(...this.sides.map((side) => side.figure));
    for (const [which, by] of [["previous", -1], ["next", 1]]) {
      byId(`${which}-neuron`).addEventListener("click", () => this.turnNeuron(by));
      byId(`${which}-pair`).addEventListener("click", () => this.turnPair(by));
      byId(`${which}-neuron`).hidden = index.neurons.length < 2;
    }
    for (const id of ["opacity", "own-scale", "grey"]) byId(id).addEventListener("input", () => this.draw());
    byId("rule").addEventListener("change", (event) => { this.rule = Number(event.target.value); this.unpackView(); this.writeKinds(); this.draw(); });
    document.addEventListener("keydown", (event) => this.key(event));
    window.addEventListener("hashchange", () => this.follow());
  }

  side(name, side) {
    const image = make("img", { alt: "" }), canvas = make("canvas", { "aria-hidden": "true" }), cross = make("span", { class: "cross", hidden: true });
    const frame = make("div", { class: "frame", tabindex: "0", role: "group", "aria-label": `${name}: Enter picks the hottest place` }, image, canvas, cross);
    const bar = make("div", { class: "bar", style: `background: ${gradient(this.colours)}` }), scale = make("span"), caption = make("figcaption");
    frame.addEventListener("pointermove", (event) => event.pointerType === "mouse" && this.light(this.cell(event, side)));
    frame.addEventListener("pointerleave", () => this.light(null));
    frame.addEventListener("click", (event) => {
      const place = this.cell(event, side);
      this.keep(JSON.stringify(place) === JSON.stringify(this.pick) ? null : place); // a second click lets it go
    });
    frame.addEventListener("keydown", (event) => this.walk(event, side));
    return { image, canvas, cross, frame, scale, caption, figure: make("figure", {}, caption, frame, make("div", { class: "scale" }, bar, scale)) };
  }

  get entry() { return this.index.neurons[this.neuron]; }
  get row() { return this.entry.pairs[this.pair]; }
  get view() { return this.references[this.reference]; }

  async show(neuron, pair = 0, reference = 0) {
    const turn = ++this.turns;
    try {
      const loaded = await loadNeuron(neuron);
      if (turn !== this.turns || !loaded.pairs.length) return; // another was asked for meanwhile, or there is nothing
      Object.assign(this, { neuron, pair: between(pair, 0, loaded.pairs.length - 1), pick: null, hover: null });
      this.references = loaded.pairs[this.pair] || [];
      this.reference = between(reference, 0, this.references.length - 1);
      this.unpackView();
      this.write();
      this.draw();
      const hash = `#neuron=${encodeURIComponent(this.entry.name)}&pair=${this.pair + 1}${this.reference ? `&reference=${this.reference + 1}` : ""}`;
      if (location.hash !== hash) location.replace(hash);
      byId("permalink").href = hash;
      this.onshow?.(this.neuron, this.pair);
    } catch (error) {
      byId("say").textContent = error.message;
    }
  }

  follow() {
    const wanted = new URLSearchParams(location.hash.slice(1)), name = wanted.get("neuron");
    const neuron = Math.max(0, this.index.neurons.findIndex((entry) => entry.name === name && entry.pairs.length));
    const [pair, reference] = ["pair", "reference"].map((key) => Math.max(0, (parseInt(wanted.get(key), 10) || 1) - 1));
    if (this.view && neuron === this.neuron && pair === this.pair && reference === this.reference) return Promise.resolve();
    return this.show(this.index.neurons[neuron].pairs.length ? neuron : this.nextWithPairs(neuron, 1), pair, reference);
  }

  nextWithPairs(from, by) {
    const n = this.index.neurons.length;
    const steps = Array.from({ length: n }, (_, i) => (from + (by + n) * (i + 1)) % n);
    return steps.find((next) => this.index.neurons[next].pairs.length) ?? from;
  }

  turnNeuron(by) { this.show(this.nextWithPairs(this.neuron, by)); }
  turnPair(by) { this.show(this.neuron, (this.pair + by + this.entry.pairs.length) % this.entry.pairs.length); }
  turnReference(by) { this.show(this.neuron, this.pair, between(this.reference + by, 0, this.references.length - 1)); }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, summary, .browse")) return;
    if (event.key === "Escape") return this.keep(null);
    if (event.shiftKey) return;
    const turns = { ArrowLeft: () => this.turnPair(-1), ArrowRight: () => this.turnPair(1), n: () => this.turnNeuron(1), p: () => this.turnNeuron(-1) };
    if (event.target.closest(".viewer")) Object.assign(turns, { ArrowUp: () => this.turnReference(-1), ArrowDown: () => this.turnReference(1) });
    if (!turns[event.key]) return;
    event.preventDefault();
    turns[event.key]();
  }

  cell(event, side) {
    if (!this.part) return null;
    const box = this.sides[side].frame.getBoundingClientRect(), [h, w] = this.part.shape.slice(2 * side, 2 * side + 2);
    return { side, row: between(Math.floor(((event.clientY - box.top) * h) / box.height), 0, h - 1), column: between(Math.floor(((event.clientX - box.left) * w) / box.width), 0, w - 1) };
  }

  light(place) {
    if (JSON.stringify(place) === JSON.stringify(this.hover)) return;
    this.hover = place;
    if (!this.pick) this.draw();
  }

  keep(place) {
    this.pick = place;
    this.draw();
    byId("say").textContent = this.pick ? this.describe(this.pick) : "";
  }

  walk(event, side) {
    if (!this.part) return;
    const [h, w] = this.part.shape.slice(2 * side, 2 * side + 2);
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (event.key === "Enter") {
      const { shape: [rows, columns], values } = this.maps[this.kind].grids[side], best = values.indexOf(Math.max(...values));
      this.keep({ side, row: Math.floor(((Math.floor(best / columns) + 0.5) * h) / rows), column: Math.floor((((best % columns) + 0.5) * w) / columns) });
    } else if (event.shiftKey && steps) {
      const from = this.pick?.side === side ? this.pick : { row: h >> 1, column: w >> 1 };
      this.keep({ side, row: between(from.row + steps[0], 0, h - 1), column: between(from.column + steps[1], 0, w - 1) });
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // Of the correspondence: sums over the other image.
  marginal(side) {
    const [h, w, h2, w2] = this.part.shape, sums = new Array(side ? h2 * w2 : h * w).fill(0);
    this.part.values.forEach((value, i) => { sums[side ? i % (h2 * w2) : Math.floor(i / (h2 * w2))] += value; });
    return sums;
  }

  // What goes with a place, over the other image.
  matching({ side, row, column }) {
    const [h, w, h2, w2] = this.part.shape, others = side ? h * w : h2 * w2, own = row * (side ? w2 : w) + column;
    const values = Float32Array.from({ length: others }, (_, i) => this.part.values[side ? i * h2 * w2 + own : own * h2 * w2 + i]);
    const sum = values.reduce((a, b) => a + b, 0) || 1;
    const shares = values.map((value) => (value * others) / sum);
    return withPeak({ shape: side ? [h, w] : [h2, w2], values: shares, top: Math.max(...shares) });
  }

  describe(place) {
    const sums = this.marginal(place.side), total = sums.reduce((a, b) => a + b, 0) || 1, match = this.matching(place);
    const [h, w] = this.part.shape.slice(2 * place.side, 2 * place.side + 2), best = match.values.indexOf(match.top);
    const share = digits((100 * sums[place.row * w + place.column]) / total), other = digits((100 * match.top) / match.values.length);
    return `Row ${place.row + 1}, column ${place.column + 1} of ${h} × ${w} on the ${SIDES[place.side]} has ${share} % of what the two share. ` +
      `It goes best with row ${Math.floor(best / match.shape[1]) + 1}, column ${(best % match.shape[1]) + 1} of the ${SIDES[1 - place.side]} (${other} % of its share).`;
  }

  // The report's own rule first; by the others there is a map of the layer alone.
  get rules() { return [[this.index.rule, this.view?.maps || []], ...(this.view?.others || []).map(([name, ...map]) => [name, [["layer", ...map]]])]; }

  unpackView() {
    this.rule = between(this.rule, 0, this.rules.length - 1);
    this.maps = this.rules[this.rule][1].map(([name, unit, x, reference]) => ({ name, unit, grids: [x, reference].map(unpack).map(withPeak) }));
    this.part = this.view?.correspondence ? unpack(this.view.correspondence) : null;
    this.kind = between(this.kind, 0, this.maps.length - 1);
  }

  write() {
    const { index, entry, row, view } = this, known = index.columns.filter(([key]) => !empty(entry.values[key]));
    byId("neuron-name").textContent = `Neuron ${entry.name}, pair ${this.pair + 1} of ${entry.pairs.length}`;
    const facts = known.map(([key, name]) => make("span", { class: "fact" }, `${name} `, make("b", {}, digits(entry.values[key]))));
    byId("facts").replaceChildren(...facts, entry.figure ? make("a", { class: "fact", href: entry.figure }, "All plots of this neuron") : "");
    const ofBest = this.references[0].warnings, said = row[4].filter((warning) => !ofBest.includes(warning)); // of any reference
    byId("warnings").replaceChildren(...[...entry.warnings, ...said, ...view.warnings].map((text) => make("li", {}, text)));
    byId("tested").textContent = row[5] && this.reference ? "Interventions were made for the first reference." : row[5] || "";
    [row[0], view.image].forEach((number, side) => {
      const [source, name, category, width, height] = index.images[number], { image, frame, caption } = this.sides[side];
      Object.assign(image, { src: source, alt: `${SIDES[side]}: ${name}${category ? ` (${category})` : ""}` });
      frame.style.aspectRatio = `${width} / ${height}`;
      const response = side ? view.response : row[3], role = side === 0 ? "Driver" : this.reference ? `Reference ${this.reference + 1}` : "Reference";
      const measured = [response === null ? "" : `response ${digits(response)}`, side ? `similarity ${digits(view.similarity)}` : ""];
      caption.replaceChildren(make("b", {}, role), ` ${[category ? `${name}, ${category}` : name, ...measured.filter(Boolean)].join("; ")}`);
    });
    this.writeKinds();
    byId("references").replaceChildren(...this.references.map((other, i) => {
      const [source, name] = index.images[other.image], image = make("img", { src: source, alt: `Reference ${i + 1}, ${name}`, width: 56, height: 56 });
      const state = { "aria-pressed": String(i === this.reference), onclick: () => this.show(this.neuron, this.pair, i) };
      return make("button", { type: "button", title: name, ...state }, image, digits(other.similarity));
    }));
    byId("say").textContent = "";
  }

  writeKinds() {
    byId("rule-choice").hidden = this.rules.length < 2;
    byId("rule").replaceChildren(...options(this.rules.map(([name], i) => (i ? name : `${name} (this report's)`)), this.rule));
    byId("kinds").replaceChildren(...this.maps.map((map, i) => this.kindChoice(map, i)));
  }

  kindChoice(map, i) {
    const small = map.grids.map((grid, side) => {
      const canvas = make("canvas", { "aria-hidden": "true" }), [source] = this.index.images[side ? this.view.image : this.row[0]];
      paint(canvas, grid, Math.max(...map.grids.map((each) => each.peak)), this.colours, 64);
      return make("span", { class: "small" }, make("img", { src: source, alt: "" }), canvas);
    });
    const radio = make("input", { type: "radio", name: "kind", value: i, checked: i === this.kind, oninput: () => { this.kind = i; this.draw(); } });
    return make("label", { class: "kind" }, radio, ...small, make("span", {}, map.name));
  }

  draw() {
    const map = this.maps[this.kind], own = byId("own-scale").checked, place = this.pick || this.hover;
    if (!map) return;
    byId("viewer").classList.toggle("greyed", byId("grey").checked);
    this.sides.forEach(({ canvas, cross, scale }, side) => {
      const lit = place && this.part && side !== place.side, grid = lit ? this.matching(place) : map.grids[side];
      const top = lit || own ? grid.peak : Math.max(...map.grids.map((each) => each.peak));
      paint(canvas, grid, top, this.colours);
      canvas.style.opacity = byId("opacity").value / 100;
      scale.textContent = `0 to ${digits(top)} × an even spread (${lit ? "what goes with the cross" : map.unit})`;
      cross.hidden = !place || place.side !== side;
      if (cross.hidden) return;
      const [h, w] = this.part.shape.slice(2 * side, 2 * side + 2);
      cross.style.left = `${(100 * (place.column + 0.5)) / w}%`;
      cross.style.top = `${(100 * (place.row + 0.5)) / h}%`;
      cross.classList.toggle("kept", place === this.pick);
    });
  }
}
