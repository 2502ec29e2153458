// Tables sort by a click or a key on a heading, long ones have a box that filters their rows. The page is whole without.
"use strict";
(() => {
  const order = new Intl.Collator(undefined, { numeric: true });

  // What a cell is sorted by: its number in data-v, else its text; null where there is nothing.
  function value(row, column) {
    const cell = row.cells[column];
    if (cell.dataset.v === undefined) return cell.textContent.trim() || null;
    return cell.dataset.v === "" ? null : Number(cell.dataset.v);
  }

  function compare(a, b) {
    return typeof a === "number" && typeof b === "number" ? a - b : order.compare(String(a), String(b));
  }

  function sort(table, heading) {
    const column = heading.cellIndex;
    const rows = [...table.tBodies[0].rows].map((row) => [value(row, column), row]);
    const numbers = rows.some(([key]) => typeof key === "number");
    const now = heading.getAttribute("aria-sort");
    // first the largest number or the first letter; what is missing comes last either way
    const down = now === "none" ? numbers : now === "ascending";
    const known = rows.filter(([key]) => key !== null);
    known.sort(([a], [b]) => (down ? compare(b, a) : compare(a, b)));
    table.tBodies[0].append(...known.concat(rows.filter(([key]) => key === null)).map(([, row]) => row));
    for (const other of table.tHead.rows[0].cells) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  }

  for (const table of document.querySelectorAll("table.sorts")) {
    for (const heading of table.tHead.rows[0].cells) {
      if (!heading.textContent.trim()) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      heading.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => sort(table, heading));
    }
  }

  for (const label of document.querySelectorAll(".filter")) {
    const [input, told] = [label.querySelector("input"), label.querySelector("output")];
    const rows = [...label.closest("section, details").querySelectorAll("table.filtered tbody tr")];
    const texts = rows.map((row) => row.cells[0].textContent.toLowerCase());
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      let shown = 0;
      rows.forEach((row, place) => {
        row.hidden = !texts[place].includes(wanted);
        shown += !row.hidden;
      });
      told.textContent = wanted ? `${shown} of ${rows.length}` : "";
    });
    label.hidden = false;
  }
})();
