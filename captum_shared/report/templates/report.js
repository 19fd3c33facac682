// Sheets of units, pictures that open large, and what starts a page.

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
      { name: "feature", kind: "picture", show: (row) => make("img", { loading: "lazy", src: row.thumbnail, alt: "", width: 56, height: 56 }) },
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
    return make("img", { loading: "lazy", src: source, alt: name, width: 56, height: Math.round((56 * height) / width) });
  }));
}

function pictureOf(index, entry) {
  if (entry.thumbnail) return make("img", { loading: "lazy", src: entry.thumbnail[0], alt: `Heat on the first pair of ${entry.name}`, width: entry.thumbnail[1] / 2, height: entry.thumbnail[2] / 2 });
  return entry.pairs.length ? two(index, ...entry.pairs[0]) : "";
}

// A warning begins with its name and a colon; tables show the name.
const hub = { name: "hub", kind: "choice", value: (row) => (row.hub ? "yes" : "no") };
const brief = (warnings) => warnings.map((warning) => warning.split(":")[0]).join("; ");
const isHub = (pair) => pair[4].some((warning) => warning.startsWith("Hub"));

function startViewer(index) {
  const viewer = new Viewer(index), toTop = () => byId("viewer").scrollIntoView({ block: "start" });
  const bare = !index.neurons.some((entry) => entry.pairs.length);
  byId("viewer").hidden = byId("pairs-table").hidden = bare;
  const columns = index.columns.map(([key, name, kind]) => ({ key, name, kind, value: (row) => row.entry.values[key] ?? null }));
  const words = (...parts) => parts.filter((part) => typeof part === "string").join(" ").toLowerCase();
  const neurons = index.neurons.map((entry, number) => ({
    entry, number, hub: entry.pairs.some(isHub), text: words(entry.name, ...Object.values(entry.values), ...entry.warnings),
  }));
  const open = (label, go) => make("button", { type: "button", class: "link", onclick: go }, label);
  let table = null, plot = null;
  if (neurons.length > 1) {
    const pick = ({ entry, number }) => {
      if (entry.pairs.length) viewer.show(number).then(toTop);
      else if (entry.figure) openSheet(`Neuron ${entry.name}`, make("img", { src: entry.figure, alt: `All plots of neuron ${entry.name}` }));
    };
    const first = { name: "strongest pair", kind: "picture", show: ({ entry }) => pictureOf(index, entry) };
    const name = { name: "neuron", kind: "text", value: (row) => row.entry.name, show: (row) => (row.entry.pairs.length || row.entry.figure ? open(row.entry.name, () => pick(row)) : row.entry.name) };
    const warnings = { name: "warnings", kind: "text", value: (row) => brief(row.entry.warnings) };
    table = new Table(byId("neurons-table"), { caption: "All neurons", noun: "neurons", rows: neurons, pick, columns: [name, first, ...columns, hub, warnings] });
    const numeric = columns.filter((column) => column.kind === "number");
    if (numeric.length > 1) plot = new Plot(byId("neurons-plot"), { columns: numeric, rows: neurons, pick, select: (rows) => table.select(rows) });
  }
  const pairs = neurons.flatMap(({ entry, number }) => entry.pairs.map((facts, pair) => {
    const [image, reference, similarity, response, warnings] = facts, [x, y] = [index.images[image], index.images[reference]];
    const named = { driver: x[1], category: x[2], other: y[1], warnings: brief(warnings), hub: isHub(facts) };
    return { entry, number, pair, image, reference, similarity, response, ...named, text: words(entry.name, x[1], x[2], y[1], y[2], ...warnings) };
  }));
  const pickPair = (row) => viewer.show(row.number, row.pair).then(toTop);
  const pairTable = new Table(byId("pairs-table"), {
    caption: "All pairs", noun: "pairs", rows: pairs, pick: pickPair,
    columns: [
      { name: "neuron", kind: "text", value: (row) => row.entry.name },
      { name: "driver", kind: "text", value: (row) => row.driver, show: (row) => open(row.driver, () => pickPair(row)) },
      { name: "pair", kind: "picture", show: (row) => two(index, row.image, row.reference) },
      ...(index.images.some((image) => image[2]) ? [{ name: "category", kind: "choice", value: (row) => row.category }] : []), { name: "reference", kind: "text", value: (row) => row.other },
      { name: "similarity", kind: "number", value: (row) => row.similarity }, { name: "response", kind: "number", value: (row) => row.response },
      hub, { name: "warnings", kind: "text", value: (row) => row.warnings },
    ],
  });
  viewer.onshow = (number, pair) => {
    pairTable.mark(pairs.find((row) => row.number === number && row.pair === pair));
    table?.mark(neurons[number]);
    plot?.mark(neurons[number]);
  };
  return (bare ? Promise.resolve() : viewer.follow()).then(() => byId("viewer").setAttribute("data-ready", String(performance.now())));
}

(window.captumShared || []).forEach(receive);
window.captumShared = { push: receive };
if (byId("viewer") && store.index) startViewer(store.index);
if (byId("units") && store.units) startUnits(store.units);
