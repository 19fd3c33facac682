"use strict";

// The script of every report: tables.js, viewer.js and report.js, one after the other. Nothing is fetched.
// This file: small things, tables that search, filter, sort and turn pages, and the plot of neurons.

const byId = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = ["svg", "circle", "line", "rect", "text", "title"].includes(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

function digits(value) {
  if (typeof value !== "number") return empty(value) ? "" : String(value);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(3)));
}

const empty = (value) => value === null || value === undefined || value === "";
const options = (names, chosen = 0) => names.map((name, i) => make("option", { value: i, selected: i === chosen }, name));
const between = (value, low, high) => Math.min(Math.max(value, low), high);

// --- tables

// Columns are { name, kind: "number" | "choice" | "text" | "picture", value(row), show(row)? }.
class Table {
  constructor(host, { caption, noun, columns, rows, pick, hint = "", size = 25 }) {
    Object.assign(this, { noun, columns, rows, pick, size, page: 0, sort: null, subset: null, current: null, words: [], filters: new Map() });
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
    const set = (test) => { this.filters.set(column, test || (() => true)); this.update(); };
    if (column.kind === "number") {
      const test = () => (least.value === "" ? null : (row) => !empty(column.value(row)) && column.value(row) >= Number(least.value));
      const least = make("input", { type: "number", step: "any", oninput: () => set(test()) });
      return make("label", {}, `${column.name} at least `, least);
    }
    if (column.kind !== "choice") return null;
    const names = [...new Set(this.rows.map(column.value))].filter(Boolean).sort();
    const test = () => (choice.value === "0" ? null : (row) => column.value(row) === names[choice.value - 1]);
    const choice = make("select", { onchange: () => set(test()) }, ...options(["any", ...names]));
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
      this.found.sort((a, b) => {
        const x = value(a), y = value(b);
        return empty(x) || empty(y) ? empty(x) - empty(y) : sign * (typeof x === "number" ? x - y : x.localeCompare(y, undefined, { numeric: true }));
      });
    }
    this.turn(-this.page);
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
    const choose = (which) => (event) => { this[which] = columns[event.target.value]; this.draw(); };
    const chooser = (which, start) => make("select", { onchange: choose(which) }, ...options(columns.map((column) => column.name), start));
    [this.x, this.y] = [columns[0], columns[1]];
    this.svg = make("svg", { viewBox: "0 0 480 300", class: "plot", role: "img" });
    const clear = make("button", { type: "button", onclick: () => { this.box = null; this.select(null); this.draw(); } }, "Show all neurons");
    const find = make("div", { class: "find" }, make("label", {}, "Across ", chooser("x", 0)), make("label", {}, "Up ", chooser("y", 1)), clear);
    host.replaceChildren(make("h2", {}, "Neurons against each other"), find, this.svg,
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
    const { x, y } = this.box || {}, inside = ({ at }) => at[0] >= x[0] && at[0] <= x[1] && at[1] >= y[0] && at[1] <= y[1];
    if (this.from && this.box) this.select(this.points.filter(inside).map((point) => point.row));
    this.from = null;
  }

  axis(column, start, end) {
    const values = this.rows.map(column.value).filter((value) => !empty(value));
    const low = Math.min(...values), high = Math.max(...values), range = high - low || 1;
    const scale = (value) => start + ((value - low + 0.04 * range) / (1.08 * range)) * (end - start);
    const step = [1, 2, 5, 10].map((n) => n * 10 ** Math.floor(Math.log10(range / 4))).find((n) => range / n <= 5);
    const ticks = [];
    for (let tick = Math.ceil(low / step) * step; tick <= high + 1e-9; tick += step) ticks.push(Number(tick.toPrecision(6)));
    return { scale, ticks };
  }

  draw() {
    const x = this.axis(this.x, 48, 470), y = this.axis(this.y, 262, 12);
    const known = this.rows.filter((row) => [this.x, this.y].every((column) => !empty(column.value(row))));
    this.points = known.map((row) => ({ row, at: [x.scale(this.x.value(row)), y.scale(this.y.value(row))] }));
    this.rectangle = make("rect", { class: "brush" });
    this.svg.setAttribute("aria-label", `${this.y.name} against ${this.x.name} of ${this.points.length} neurons; the table has the numbers`);
    this.svg.replaceChildren(
      make("line", { x1: 48, x2: 470, y1: 262, y2: 262 }), make("line", { x1: 48, x2: 48, y1: 12, y2: 262 }),
      ...x.ticks.map((tick) => make("text", { x: x.scale(tick), y: 278, "text-anchor": "middle" }, digits(tick))),
      ...y.ticks.map((tick) => make("text", { x: 42, y: y.scale(tick) + 4, "text-anchor": "end" }, digits(tick))),
      make("text", { x: 259, y: 296, "text-anchor": "middle" }, this.x.name),
      make("text", { x: 0, y: 0, "text-anchor": "middle", transform: "translate(12 137) rotate(-90)" }, this.y.name),
      ...this.points.map((point) => this.circle(point)),
      this.rectangle,
    );
    this.box = null;
  }

  circle({ row, at: [cx, cy] }) {
    return make("circle", { cx, cy, r: 4, class: row === this.current ? "current" : null, onclick: () => this.pick(row) }, make("title", {}, row.entry.name));
  }

  mark(row) { this.current = row; this.draw(); }
}
