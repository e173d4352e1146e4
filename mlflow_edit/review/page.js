"use strict";
const make = (tag, attributes, ...children) => {
  const node = Object.assign(document.createElement(tag), attributes);
  node.append(...children);
  return node;
};
const value = (cell, numeric) => {
  const meter = cell.querySelector("meter");
  if (meter) return meter.value / meter.max;
  const text = cell.textContent.trim();
  const number = parseFloat(text.replaceAll(",", ""));
  return numeric ? (isNaN(number) ? Infinity : number) : text;
};
const compare = (a, b) =>
  typeof a === typeof b && typeof a === "string" ? a.localeCompare(b) : (a > b) - (a < b);

for (const cell of document.querySelectorAll(".five td:nth-child(5)")) {
  const [, distance, radius] = /^([\d.e+-]+) of ([\d.e+-]+)$/.exec(cell.lastChild?.data.trim()) ?? [];
  if (radius > 0 && distance >= 0) cell.append(make("meter", { max: radius, value: distance }));
}

for (const table of document.querySelectorAll("table.list")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    const button = make("button", { type: "button" }, ...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const cells = rows.map((row) => row.cells[column]);
      const numeric = head.className === "n" || cells.some((it) => it.querySelector("meter"));
      const down = head.ariaSort === "ascending";
      for (const other of table.tHead.rows[0].cells) other.ariaSort = null;
      head.ariaSort = down ? "descending" : "ascending";
      const keyed = [...body.rows].map((row) => [value(row.cells[column], numeric), row]);
      keyed.sort(([a], [b]) => (down ? compare(b, a) : compare(a, b)));
      body.append(...keyed.map(([, row]) => row));
    };
  }
  if (rows.length < 8) continue;
  const search = make("input", { type: "search", placeholder: "Search", ariaLabel: "Search" });
  const only = make("input", { type: "checkbox" });
  const count = make("output");
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/);
    let shown = 0;
    rows.forEach((row, i) => {
      const bad = !only.checked || row.className === "bad";
      row.hidden = !(bad && words.every((word) => texts[i].includes(word)));
      shown += !row.hidden;
    });
    count.value = shown === rows.length ? "" : `${shown} of ${rows.length}`;
  };
  search.oninput = only.onchange = filter;
  const tools = make("p", { className: "tools" }, search);
  if (rows.some((row) => row.className === "bad")) {
    tools.append(make("label", {}, only, " only what failed"));
  }
  tools.append(count);
  table.before(tools);
}

const marks = document.querySelectorAll("figure circle");
document.querySelectorAll(".scope tbody tr").forEach((row, i) => {
  const mark = marks[i];
  if (!mark) return;
  const light = (on) => [row, mark].forEach((node) => node.classList.toggle("on", on));
  for (const node of [row, mark]) {
    node.onpointerenter = () => light(true);
    node.onpointerleave = () => light(false);
  }
  mark.onclick = () => row.scrollIntoView({ block: "center" });
  const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
  title.textContent = row.cells[0].textContent;
  mark.append(title);
});
