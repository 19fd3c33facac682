"use strict";

// Tables whose columns sort: a heading cycles between the two directions, and what is empty stays at the end.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.querySelectorAll("th[aria-sort]")];
  for (const head of heads) {
    head.querySelector("button").addEventListener("click", () => {
      const numeric = head.classList.contains("number"), was = head.getAttribute("aria-sort");
      const down = was === "none" ? numeric : was === "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const order = (a, b) => (numeric ? a - b : a.localeCompare(b, undefined, { numeric: true }));
      [...table.tBodies[0].rows]
        .map((row) => [row.cells[head.cellIndex].dataset.value, row])
        .sort(([a], [b]) => (a === "" || b === "" ? (a === "") - (b === "") : down ? order(b, a) : order(a, b)))
        .forEach(([, row]) => table.tBodies[0].appendChild(row));
    });
  }
}

// A table that is searched: every word must be in the row's text.
const box = document.getElementById("seek");
if (box) {
  const rows = [...document.querySelectorAll("table.searched tbody tr")];
  const count = document.getElementById("seek-count");
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row) => (row.hidden = !words.every((word) => row.dataset.text.includes(word))));
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} units`;
  });
}

// Pictures that open large over the page; with a modifier key the link is a link.
const dialog = document.querySelector("dialog");
for (const link of dialog ? document.querySelectorAll("a.zoom") : []) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const image = dialog.querySelector("img");
    image.src = link.getAttribute("href");
    image.alt = link.querySelector("img").alt;
    dialog.showModal();
    dialog.scrollTo(0, 0);
  });
}
dialog?.addEventListener("click", (event) => event.target === dialog && dialog.close());
