"use strict";
// sorts a table by the pressed column; a second press turns the order round
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const th = button.closest("th"), table = th.closest("table"), body = table.tBodies[0];
    const ascending = th.getAttribute("aria-sort") !== "ascending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const value = row => {
      const cell = row.cells[th.cellIndex], data = cell.dataset.v;
      return data === undefined ? cell.textContent.trim() : data === "" ? Infinity : Number(data);
    };
    const compare = (a, b) => typeof a === "number" ? a - b : a.localeCompare(b, document.documentElement.lang, {numeric: true});
    const rows = [...body.rows].sort((a, b) => (ascending ? 1 : -1) * compare(value(a), value(b)));
    body.append(...rows);
  });
}
