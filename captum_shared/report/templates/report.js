"use strict";

// The script of every report: tables that search, filter, sort and turn pages; a plot of neurons; the viewer of pairs.
// Nothing is fetched. Data arrive as scripts that push onto `captumShared`, before or after this one.

// --- small things

const byId = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const space = ["svg", "circle", "line", "rect", "text", "title"].includes(tag);
  const element = space ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

function digits(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(3)));
}

const between = (value, low, high) => Math.min(Math.max(value, low), high);

// --- data

const store = { index: null, units: null, neurons: new Map() };
const KEPT = 30; // neurons whose maps stay in memory

function receive([kind, key, value]) {
  if (kind === "neuron") store.neurons.set(key, value);
  else store[kind] = value;
}

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

// --- heat

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

// --- tables

// Columns are { name, kind: "number" | "choice" | "text" | "picture", value(row), show(row)? }.
class Table {
  constructor(host, { caption, noun, columns, rows, pick, hint = "", size = 25 }) {
    Object.assign(this, { noun, columns, rows, pick, size, page: 0, sort: null, subset: null, current: null });
    this.words = [];
    this.filters = new Map();
    this.found = rows;
    this.box = make("input", { type: "search", autocomplete: "off", oninput: () => { this.words = this.box.value.toLowerCase().split(/\s+/).filter(Boolean); this.update(); } });
    this.count = make("span", { role: "status", "aria-live": "polite", class: "count" });
    this.heads = columns.map((column, i) => this.head(column, i));
    this.body = make("tbody");
    this.previous = make("button", { type: "button", onclick: () => this.turn(-1) }, "Previous page");
    this.next = make("button", { type: "button", onclick: () => this.turn(1) }, "Next page");
    this.where = make("span");
    const fields = columns.map((column) => this.filterField(column)).filter(Boolean);
    host.replaceChildren(
      make("h2", {}, caption),
      make("div", { class: "find" }, make("label", {}, `Search ${noun} `, this.box), this.count, make("span", { class: "hint" }, hint)),
      fields.length ? make("details", { class: "filters" }, make("summary", {}, "Filters"), make("div", {}, ...fields)) : "",
      make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
        make("table", { class: "sortable" }, make("thead", {}, make("tr", {}, ...this.heads)), this.body)),
      make("nav", { class: "pages", "aria-label": `Pages of ${noun}` }, this.previous, this.where, this.next),
    );
    this.update();
  }

  head(column, i) {
    if (column.kind === "picture") return make("th", { scope: "col" }, column.name);
    const button = make("button", { type: "button", onclick: () => this.sortBy(i) }, column.name);
    return make("th", { scope: "col", "aria-sort": "none", class: column.kind === "number" ? "number" : null }, button);
  }

  filterField(column) {
    const set = (test) => {
      if (test) this.filters.set(column, test);
      else this.filters.delete(column);
      this.update();
    };
    if (column.kind === "number") {
      const least = make("input", { type: "number", step: "any", oninput: () => set(least.value === "" ? null : (row) => column.value(row) !== null && column.value(row) >= Number(least.value)) });
      return make("label", {}, `${column.name} at least `, least);
    }
    if (column.kind !== "choice") return null;
    const names = [...new Set(this.rows.map(column.value))].filter(Boolean).sort(), options = ["any", ...names].map((name, i) => make("option", { value: i }, name));
    const choice = make("select", { onchange: () => set(choice.value === "0" ? null : (row) => column.value(row) === names[choice.value - 1]) }, ...options);
    return make("label", {}, `${column.name} `, choice);
  }

  // "image:fox" looks among the names of a row's images, any other word in its text, a number as a whole.
  has(row, word) {
    if (/^\d+$/.test(word)) return new RegExp(`(^|[^\\d.])${word}($|[^\\d.])`).test(row.text);
    return word.startsWith("image:") ? (row.images || "").includes(word.slice(6)) : row.text.includes(word);
  }

  select(rows) { this.subset = rows && new Set(rows); this.update(); }

  sortBy(i) {
    const down = this.sort?.i === i ? !this.sort.down : this.columns[i].kind === "number";
    this.sort = { i, down };
    this.heads.forEach((head, j) => head.hasAttribute("aria-sort") && head.setAttribute("aria-sort", i !== j ? "none" : down ? "descending" : "ascending"));
    this.update();
  }

  update() {
    const tests = [...this.filters.values()];
    this.found = this.rows.filter((row) => (!this.subset || this.subset.has(row)) && tests.every((test) => test(row)) && this.words.every((word) => this.has(row, word)));
    if (this.sort) {
      const { value } = this.columns[this.sort.i], sign = this.sort.down ? -1 : 1;
      const empty = (v) => v === null || v === undefined || v === "";
      this.found.sort((a, b) => {
        const x = value(a), y = value(b);
        if (empty(x) || empty(y)) return empty(x) - empty(y);
        return sign * (typeof x === "number" ? x - y : x.localeCompare(y, undefined, { numeric: true }));
      });
    }
    this.page = 0;
    this.draw();
  }

  turn(by) {
    this.page = between(this.page + by, 0, Math.max(0, Math.ceil(this.found.length / this.size) - 1));
    this.draw();
  }

  draw() {
    const first = this.page * this.size, shown = this.found.slice(first, first + this.size);
    this.count.textContent = `${this.found.length} of ${this.rows.length} ${this.noun}`;
    this.where.textContent = shown.length ? ` ${first + 1} to ${first + shown.length} of ${this.found.length} ` : " none ";
    this.previous.disabled = this.page === 0;
    this.next.disabled = first + this.size >= this.found.length;
    this.body.replaceChildren(...shown.map((row) => this.row(row)));
  }

  row(row) {
    const cells = this.columns.map((column) => make("td", { class: column.kind === "number" ? "number" : null }, column.show ? column.show(row) : digits(column.value(row))));
    const open = (event) => (event.target.closest("a") ? null : this.pick(row));
    return make("tr", { onclick: open, "aria-current": row === this.current ? "true" : null }, ...cells);
  }

  mark(row) { this.current = row; this.draw(); }
}

// --- the plot of neurons

class Plot {
  constructor(host, { columns, rows, pick, select }) {
    Object.assign(this, { columns, rows, pick, select });
    const chooser = (which, start) => make("select", { onchange: (event) => { this[which] = columns[event.target.value]; this.draw(); } }, ...columns.map((c, i) => make("option", { value: i, selected: i === start }, c.name)));
    [this.x, this.y] = [columns[0], columns[1]];
    this.svg = make("svg", { viewBox: "0 0 480 300", class: "plot", role: "img" });
    const clear = make("button", { type: "button", onclick: () => { this.box = null; this.select(null); this.draw(); } }, "Show all neurons");
    host.replaceChildren(make("h2", {}, "Neurons against each other"), make("div", { class: "find" }, make("label", {}, "Across ", chooser("x", 0)), make("label", {}, "Up ", chooser("y", 1)), clear), this.svg,
      make("p", { class: "hint" }, "Click a neuron to open it; drag a box to keep only its neurons in the table below, which has the same numbers."));
    this.svg.addEventListener("pointerdown", (event) => { this.from = this.place(event); });
    this.svg.addEventListener("pointermove", (event) => { if (this.from) this.drag(this.place(event)); });
    this.svg.addEventListener("pointerup", () => this.drop());
    this.draw();
  }

  place(event) {
    const box = this.svg.getBoundingClientRect();
    return [((event.clientX - box.left) * 480) / box.width, ((event.clientY - box.top) * 300) / box.height];
  }

  drag(to) {
    const [x, y] = [0, 1].map((i) => [this.from[i], to[i]].sort((a, b) => a - b));
    if (x[1] - x[0] + y[1] - y[0] < 6) return;
    this.box = { x, y };
    for (const [name, value] of Object.entries({ x: x[0], y: y[0], width: x[1] - x[0], height: y[1] - y[0] })) this.rectangle.setAttribute(name, value);
  }

  drop() {
    if (this.from && this.box) {
      const { x, y } = this.box;
      this.select(this.points.filter((p) => p.at[0] >= x[0] && p.at[0] <= x[1] && p.at[1] >= y[0] && p.at[1] <= y[1]).map((p) => p.row));
    }
    this.from = null;
  }

  axis(column, start, end) {
    const values = this.rows.map(column.value).filter((v) => v !== null && v !== undefined);
    const low = Math.min(...values), high = Math.max(...values), range = high - low || 1;
    const scale = (value) => start + ((value - low + 0.04 * range) / (1.08 * range)) * (end - start);
    const step = [1, 2, 5, 10].map((n) => n * 10 ** Math.floor(Math.log10(range / 4))).find((n) => range / n <= 5);
    const ticks = [];
    for (let tick = Math.ceil(low / step) * step; tick <= high + 1e-9; tick += step) ticks.push(Number(tick.toPrecision(6)));
    return { scale, ticks };
  }

  draw() {
    const x = this.axis(this.x, 48, 470), y = this.axis(this.y, 262, 12);
    this.points = this.rows.filter((row) => [this.x, this.y].every((c) => c.value(row) !== null && c.value(row) !== undefined)).map((row) => ({ row, at: [x.scale(this.x.value(row)), y.scale(this.y.value(row))] }));
    this.rectangle = make("rect", { class: "brush" });
    this.svg.setAttribute("aria-label", `${this.y.name} against ${this.x.name} of ${this.points.length} neurons; the table has the numbers`);
    this.svg.replaceChildren(
      make("line", { x1: 48, x2: 470, y1: 262, y2: 262 }), make("line", { x1: 48, x2: 48, y1: 12, y2: 262 }),
      ...x.ticks.map((tick) => make("text", { x: x.scale(tick), y: 278, "text-anchor": "middle" }, digits(tick))),
      ...y.ticks.map((tick) => make("text", { x: 42, y: y.scale(tick) + 4, "text-anchor": "end" }, digits(tick))),
      make("text", { x: 259, y: 296, "text-anchor": "middle" }, this.x.name),
      make("text", { x: 0, y: 0, "text-anchor": "middle", transform: "translate(12 137) rotate(-90)" }, this.y.name),
      ...this.points.map(({ row, at }) => make("circle", { cx: at[0], cy: at[1], r: 4, class: row === this.current ? "current" : null, onclick: () => this.pick(row) }, make("title", {}, row.entry.name))),
      this.rectangle,
    );
    this.box = null;
  }

  mark(row) { this.current = row; this.draw(); }
}

// --- the viewer

const SIDES = ["driver", "reference"];

class Viewer {
  constructor(index) {
    Object.assign(this, { index, references: [], neuron: 0, pair: 0, reference: 0, kind: 0, pick: null, hover: null, turns: 0 });
    this.colours = bytes(index.colours);
    this.sides = SIDES.map((name, side) => this.side(name, side));
    byId("sides").replaceChildren(...this.sides.map((side) => side.figure));
    for (const [id, turn] of [["previous-neuron", () => this.turnNeuron(-1)], ["next-neuron", () => this.turnNeuron(1)], ["previous-pair", () => this.turnPair(-1)], ["next-pair", () => this.turnPair(1)]]) byId(id).addEventListener("click", turn);
    for (const id of ["opacity", "own-scale", "grey"]) byId(id).addEventListener("input", () => this.draw());
    document.addEventListener("keydown", (event) => this.key(event));
    window.addEventListener("hashchange", () => this.follow());
    for (const id of ["previous-neuron", "next-neuron"]) byId(id).hidden = index.neurons.length < 2;
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

  // What is shown.

  get entry() { return this.index.neurons[this.neuron]; }
  get row() { return this.entry.pairs[this.pair]; }
  get view() { return this.references[this.reference]; }

  async show(neuron, pair = 0, reference = 0) {
    const turn = ++this.turns;
    try {
      const loaded = await loadNeuron(neuron);
      if (turn !== this.turns || !loaded.pairs.length) return; // another was asked for meanwhile, or there is nothing
      Object.assign(this, { neuron, pair: between(pair, 0, loaded.pairs.length - 1) });
      this.references = loaded.pairs[this.pair] || [];
      this.reference = between(reference, 0, this.references.length - 1);
      Object.assign(this, { pick: null, hover: null });
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
    for (let i = 1; i <= n; i++) {
      const next = (from + by * i + n * i) % n;
      if (this.index.neurons[next].pairs.length) return next;
    }
    return from;
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

  // Places.

  cell(event, side) {
    const part = this.part;
    if (!part) return null;
    const box = this.sides[side].frame.getBoundingClientRect(), [h, w] = part.shape.slice(2 * side, 2 * side + 2);
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
    const part = this.part;
    if (!part) return;
    const [h, w] = part.shape.slice(2 * side, 2 * side + 2);
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (event.key === "Enter") {
      const sums = this.marginal(side), best = sums.indexOf(Math.max(...sums));
      this.keep({ side, row: Math.floor(best / w), column: best % w });
    } else if (event.shiftKey && steps) {
      const from = this.pick?.side === side ? this.pick : { row: h >> 1, column: w >> 1 };
      this.keep({ side, row: between(from.row + steps[0], 0, h - 1), column: between(from.column + steps[1], 0, w - 1) });
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // Of the correspondence: sums over the other image, and the part that goes with a place.

  marginal(side) {
    const [h, w, h2, w2] = this.part.shape, sums = new Array(side ? h2 * w2 : h * w).fill(0);
    this.part.values.forEach((value, i) => { sums[side ? i % (h2 * w2) : Math.floor(i / (h2 * w2))] += value; });
    return sums;
  }

  matching({ side, row, column }) {
    const [h, w, h2, w2] = this.part.shape, others = side ? h * w : h2 * w2, own = row * (side ? w2 : w) + column;
    const values = Float32Array.from({ length: others }, (_, i) => this.part.values[side ? i * h2 * w2 + own : own * h2 * w2 + i]);
    const sum = values.reduce((a, b) => a + b, 0) || 1;
    const shares = values.map((value) => (value * others) / sum);
    return { shape: side ? [h, w] : [h2, w2], values: shares, top: Math.max(...shares) };
  }

  describe(place) {
    const sums = this.marginal(place.side), total = sums.reduce((a, b) => a + b, 0) || 1, match = this.matching(place);
    const [h, w] = this.part.shape.slice(2 * place.side, 2 * place.side + 2), best = match.values.indexOf(match.top);
    const share = (100 * sums[place.row * w + place.column]) / total;
    return `Row ${place.row + 1}, column ${place.column + 1} of ${h} × ${w} on the ${SIDES[place.side]} has ${digits(share)} % of what the two share. It goes best with row ${Math.floor(best / match.shape[1]) + 1}, column ${(best % match.shape[1]) + 1} of the ${SIDES[1 - place.side]} (${digits((100 * match.top) / match.values.length)} % of its share).`;
  }

  // Ink.

  unpackView() {
    this.maps = (this.view?.maps || []).map(([name, unit, x, reference]) => ({ name, unit, grids: [unpack(x), unpack(reference)] }));
    this.part = this.view?.correspondence ? unpack(this.view.correspondence) : null;
    this.kind = between(this.kind, 0, this.maps.length - 1);
  }

  write() {
    const { index, entry, row, view } = this, facts = index.columns.map(([key, name]) => [name, entry.values[key]]).filter(([, value]) => value !== null && value !== undefined && value !== "");
    byId("neuron-name").textContent = `Neuron ${entry.name}, pair ${this.pair + 1} of ${entry.pairs.length}`;
    byId("facts").replaceChildren(...facts.map(([name, value]) => make("span", { class: "fact" }, `${name} `, make("b", {}, digits(value)))), entry.figure ? make("a", { class: "fact", href: entry.figure }, "All plots of this neuron") : "");
    byId("warnings").replaceChildren(...[...entry.warnings, ...row[4].filter((w) => !view.warnings.includes(w) || this.reference === 0), ...(this.reference ? view.warnings : [])].map((text) => make("li", {}, text)));
    [row[0], view.image].forEach((number, side) => {
      const [source, name, category, width, height] = index.images[number], { image, frame, caption } = this.sides[side];
      image.src = source;
      image.alt = `${SIDES[side]}: ${name} (${category})`;
      frame.style.aspectRatio = `${width} / ${height}`;
      const response = side ? view.response : row[3], role = side === 0 ? "Driver" : this.reference ? `Reference ${this.reference + 1}` : "Reference";
      caption.replaceChildren(make("b", {}, role), ` ${name}, ${category}${response === null ? "" : `; response ${digits(response)}`}${side ? `; similarity ${digits(view.similarity)}` : ""}`);
    });
    byId("kinds").replaceChildren(...this.maps.map((map, i) => this.kindChoice(map, i)));
    byId("references").replaceChildren(...this.references.map((other, i) => {
      const [source, name] = index.images[other.image];
      return make("button", { type: "button", "aria-pressed": String(i === this.reference), title: name, onclick: () => this.show(this.neuron, this.pair, i) }, make("img", { src: source, alt: `Reference ${i + 1}, ${name}`, width: 56, height: 56 }), digits(other.similarity));
    }));
    byId("say").textContent = "";
  }

  kindChoice(map, i) {
    const small = map.grids.map((grid, side) => {
      const canvas = make("canvas", { "aria-hidden": "true" }), [source] = this.index.images[side ? this.view.image : this.row[0]];
      paint(canvas, grid, Math.max(map.grids[0].top, map.grids[1].top), this.colours, 64);
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
      const top = lit || own ? grid.top : Math.max(map.grids[0].top, map.grids[1].top);
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

// --- sheets of units, and pictures that open large

function openSheet(title, ...content) {
  const dialog = byId("sheet");
  byId("sheet-title").textContent = title;
  byId("sheet-content").replaceChildren(...content);
  if (!dialog.open) dialog.showModal();
  dialog.scrollTo(0, 0);
}

function startUnits({ columns, units }) {
  const rows = units.map(([layer, unit, values, classes, images, thumbnail, sheet, facts]) => ({
    layer, unit, values, classes, thumbnail, sheet, facts, names: images, images: images.join(" ").toLowerCase(),
    text: [layer, `unit ${unit}`, classes[0]?.[0] || ""].join(" ").toLowerCase(),
  }));
  const open = (row) => {
    const name = `${row.layer}, unit ${row.unit}`, hash = `#layer=${encodeURIComponent(row.layer)}&unit=${row.unit}`;
    const list = (items) => make("dl", { class: "facts" }, ...items.flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, digits(value))]));
    openSheet(name, make("img", { src: row.sheet, alt: `Neuron Feature of ${name}, then its strongest crops` }),
      make("p", {}, `Neuron Feature, and the strongest crops in the order of reading, from ${row.names.slice(0, 5).join(", ")}.`),
      make("div", { class: "columns" }, list(row.facts), list(row.classes.map(([label, share]) => [label, `${digits(100 * share)} % by base rates`]))));
    table.mark(row);
    if (location.hash !== hash) location.replace(hash);
  };
  const table = new Table(byId("units"), {
    caption: "All units", noun: "units", rows, pick: open,
    hint: "Searches layer, number and top class; image:fox searches the strongest images. A row opens its unit's sheet.",
    columns: [
      { name: "feature", kind: "picture", show: (row) => make("img", { src: row.thumbnail, alt: "", width: 56, height: 56 }) },
      { name: "unit", kind: "number", value: (row) => row.unit, show: (row) => make("button", { type: "button", class: "link", onclick: () => open(row) }, String(row.unit)) },
      { name: "layer", kind: "choice", value: (row) => row.layer }, { name: "top class", kind: "choice", value: (row) => row.classes[0]?.[0] || "" },
      ...columns.map((name, i) => ({ name, kind: "number", value: (row) => row.values[i] })),
      { name: "strongest images", kind: "text", value: (row) => row.names.slice(0, 2).join(", ") },
    ],
  });
  const follow = () => {
    const wanted = new URLSearchParams(location.hash.slice(1)), row = rows.find((r) => r.layer === wanted.get("layer") && String(r.unit) === wanted.get("unit"));
    if (row && row !== table.current) open(row);
  };
  window.addEventListener("hashchange", follow);
  byId("units").setAttribute("data-ready", "true");
  follow();
}

// With a modifier key a link stays a link.
for (const link of document.querySelectorAll("a.zoom")) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    openSheet("", make("img", { src: link.href, alt: link.querySelector("img").alt }));
  });
}
byId("sheet")?.addEventListener("click", (event) => event.target === byId("sheet") && byId("sheet").close());

// --- putting it together

function two(index, ...numbers) {
  return make("span", { class: "two" }, ...numbers.slice(0, 2).map((number) => {
    const [source, name, , width, height] = index.images[number];
    return make("img", { src: source, alt: name, loading: "lazy", width: 56, height: Math.round((56 * height) / width) });
  }));
}

function thumbnail(index, entry) {
  if (entry.thumbnail) return make("img", { src: entry.thumbnail[0], alt: `Heat on the strongest pair of ${entry.name}`, loading: "lazy", width: entry.thumbnail[1], height: entry.thumbnail[2] });
  return entry.pairs.length ? two(index, ...entry.pairs[0]) : "";
}

function startViewer(index) {
  const viewer = new Viewer(index), toTop = () => byId("viewer").scrollIntoView({ block: "start" });
  const empty = !index.neurons.some((entry) => entry.pairs.length);
  byId("viewer").hidden = byId("pairs-table").hidden = empty;
  const columns = index.columns.map(([key, name, kind]) => ({ key, name, kind, value: (row) => row.entry.values[key] ?? null }));
  const neurons = index.neurons.map((entry, number) => ({ entry, number, text: [entry.name, ...Object.values(entry.values).filter((v) => typeof v === "string"), ...entry.warnings].join(" ").toLowerCase() }));
  const open = (label, go) => make("button", { type: "button", class: "link", onclick: go }, label);
  let table = null, plot = null;
  if (neurons.length > 1) {
    const pick = ({ entry, number }) => {
      if (entry.pairs.length) viewer.show(number).then(toTop);
      else if (entry.figure) openSheet(`Neuron ${entry.name}`, make("img", { src: entry.figure, alt: `All plots of neuron ${entry.name}` }));
    };
    const first = { name: "strongest pair", kind: "picture", show: ({ entry }) => thumbnail(index, entry) };
    const name = { name: "neuron", kind: "text", value: (row) => row.entry.name, show: (row) => (row.entry.pairs.length || row.entry.figure ? open(row.entry.name, () => pick(row)) : row.entry.name) };
    const warnings = { name: "warnings", kind: "text", value: (row) => row.entry.warnings.join("; ") };
    table = new Table(byId("neurons-table"), { caption: "All neurons", noun: "neurons", rows: neurons, pick, columns: [name, first, ...columns, warnings] });
    const numeric = columns.filter((column) => column.kind === "number");
    if (numeric.length > 1) plot = new Plot(byId("neurons-plot"), { columns: numeric, rows: neurons, pick, select: (rows) => table.select(rows) });
  }
  const pairs = neurons.flatMap(({ entry, number }) => entry.pairs.map(([image, reference, similarity, response, warnings], pair) => {
    const [x, y] = [index.images[image], index.images[reference]];
    return { entry, number, pair, image, reference, similarity, response, warnings: warnings.join("; "), driver: x[1], category: x[2], other: y[1], text: [entry.name, x[1], x[2], y[1], y[2], ...warnings].join(" ").toLowerCase() };
  }));
  const pickPair = (row) => viewer.show(row.number, row.pair).then(toTop);
  const pairTable = new Table(byId("pairs-table"), {
    caption: "All pairs", noun: "pairs", rows: pairs, pick: pickPair,
    columns: [
      { name: "neuron", kind: "text", value: (row) => row.entry.name },
      { name: "driver", kind: "text", value: (row) => row.driver, show: (row) => open(row.driver, () => pickPair(row)) },
      { name: "pair", kind: "picture", show: (row) => two(index, row.image, row.reference) },
      { name: "category", kind: "choice", value: (row) => row.category }, { name: "reference", kind: "text", value: (row) => row.other },
      { name: "similarity", kind: "number", value: (row) => row.similarity }, { name: "response", kind: "number", value: (row) => row.response },
      { name: "warnings", kind: "text", value: (row) => row.warnings },
    ],
  });
  viewer.onshow = (number, pair) => {
    pairTable.mark(pairs.find((row) => row.number === number && row.pair === pair));
    table?.mark(neurons[number]);
    plot?.mark(neurons[number]);
  };
  return (empty ? Promise.resolve() : viewer.follow()).then(() => byId("viewer").setAttribute("data-ready", String(performance.now())));
}

(window.captumShared || []).forEach(receive);
window.captumShared = { push: receive };
if (byId("viewer") && store.index) startViewer(store.index);
if (byId("units") && store.units) startUnits(store.units);
