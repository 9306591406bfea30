"use strict";
// Sorts a table by the pressed column; a second press turns the order round. What is missing stays last.
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const th = button.closest("th"), table = th.closest("table"), body = table.tBodies[0];
    const sign = th.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const read = row => {
      const cell = row.cells[th.cellIndex], data = cell.dataset.v;
      return data === undefined ? cell.textContent.trim() : data === "" ? null : Number(data);
    };
    const compare = (a, b) => a === null || b === null ? (a === null) - (b === null)
      : sign * (typeof a === "number" ? a - b : a.localeCompare(b, document.documentElement.lang, {numeric: true}));
    body.append(...[...body.rows].sort((a, b) => compare(read(a), read(b))));
  });
}
// paper can't be unfolded
const folded = [];
addEventListener("beforeprint", () => {
  folded.push(...document.querySelectorAll("details:not([open])"));
  for (const details of folded) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of folded.splice(0)) details.open = false;
});
