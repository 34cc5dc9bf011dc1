"use strict";
// Tables of questions: filters, search and pages of rows. All texts enter as textContent.
for (const block of document.querySelectorAll(".questions")) {
  const data = JSON.parse(document.getElementById(block.dataset.source).textContent);
  const PAGE = matchMedia("(max-width: 700px)").matches ? 15 : 50;
  const wanted = data.columns.map(() => -1); // Number of the chosen value; -1 for any.
  let search = "";
  let first = 0;
  let found = data.rows;

  const make = (tag, parent, text) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  };
  const cellText = (row, place) => {
    const {values} = data.columns[place];
    if (!values) return row[place];
    return [row[place]].flat().map((number) => values[number]).join(", ");
  };
  const filter = () => {
    found = data.rows.filter((row) => {
      for (let place = 0; place < wanted.length; place++) {
        if (wanted[place] >= 0 && ![row[place]].flat().includes(wanted[place])) return false;
      }
      if (!search) return true;
      return data.columns.some((_, place) => cellText(row, place).toLowerCase().includes(search));
    });
    first = 0;
    draw();
  };

  const controls = make("div", block);
  controls.className = "controls";
  data.columns.forEach((column, place) => {
    if (!column.values || column.values.length < 2 || column.values.length > 300) return;
    const select = make("select", controls);
    select.setAttribute("aria-label", column.title);
    make("option", select, `${column.title}: all`).value = -1;
    column.values.forEach((value, number) => {
      make("option", select, value || "(none)").value = number;
    });
    select.addEventListener("change", () => {
      wanted[place] = Number(select.value);
      filter();
    });
  });
  const input = make("input", controls);
  input.type = "search";
  input.placeholder = "Search";
  input.setAttribute("aria-label", "Search");
  input.addEventListener("input", () => {
    search = input.value.toLowerCase();
    filter();
  });
  const count = make("span", controls);
  count.className = "count";
  const turn = (text, label, step) => {
    const button = make("button", controls, text);
    button.setAttribute("aria-label", label);
    button.addEventListener("click", () => {
      first += step * PAGE;
      draw();
    });
    return button;
  };
  const back = turn("‹", "Previous rows", -1);
  const onward = turn("›", "Next rows", 1);

  const table = make("table", block);
  const head = make("tr", make("thead", table));
  for (const column of data.columns) make("th", head, column.title);
  const body = make("tbody", table);

  function draw() {
    body.replaceChildren();
    const last = Math.min(first + PAGE, found.length);
    for (const row of found.slice(first, last)) {
      const line = make("tr", body);
      data.columns.forEach((column, place) => {
        const text = cellText(row, place);
        const cell = make("td", line);
        const words = text ? make("span", cell, text) : cell;
        words.dir = "auto";
        cell.className = column.kind;
        cell.dataset.title = column.title;
        if (column.kind === "choice") cell.dataset.value = text;
      });
    }
    const rows = found.length.toLocaleString("en");
    count.textContent = found.length ? `${first + 1}–${last} of ${rows}` : "none";
    back.disabled = first === 0;
    onward.disabled = last >= found.length;
  }
  draw();
}
