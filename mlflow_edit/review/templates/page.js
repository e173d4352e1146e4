"use strict";
const PAGE = 100;
const collator = new Intl.Collator();
const make = (tag, attributes, ...children) => {
  const node = Object.assign(document.createElement(tag), attributes);
  node.append(...children);
  return node;
};
const button = (text, onclick) => make("button", { type: "button", onclick }, text);
const valueOf = (cell, numeric) => {
  if (!numeric) return cell.textContent.trim();
  const meter = cell.querySelector("meter");
  const number = meter ? meter.value : parseFloat(cell.textContent.trim().replaceAll(",", ""));
  return isNaN(number) ? Infinity : number;
};
const compare = (a, b) => (typeof a === "string" ? collator.compare(a, b) : (a > b) - (a < b));

const addMeter = (cell) => {
  const said = cell.lastChild?.data?.trim() ?? "";
  const [, sure] = /^([\d.e+-]+) % sure$/.exec(said) ?? [];
  const [, distance, radius] = /^([\d.e+-]+) of ([\d.e+-]+)$/.exec(said) ?? [];
  if (sure) cell.append(make("meter", { max: 100, value: sure, ariaLabel: "how sure" }));
  if (radius > 0) cell.append(make("meter", { max: 1, value: distance / radius, ariaLabel: "of the radius" }));
};

class List {
  constructor(table) {
    this.table = table;
    this.body = table.tBodies[0];
    this.rows = [...this.body.rows];
    this.order = this.rows;
    this.wanted = this.rows;
    this.limit = PAGE;
    this.texts = new Map();
    [...table.tHead.rows[0].cells].forEach((head, column) => this.sortBy(head, column));
    if (this.rows.length >= 8) this.addTools();
    if (this.rows.length > PAGE) this.addMore();
    this.draw();
    table.classList.add("paged");
  }
  draw() {
    const shown = this.wanted.slice(0, this.limit);
    if (shown.length === this.body.rows.length && shown.every((row, i) => row === this.body.rows[i])) return;
    this.body.replaceChildren(...shown);
    if (!this.more) return;
    this.more.hidden = this.wanted.length <= shown.length;
    this.more.firstChild.value = `${shown.length} of ${this.wanted.length} shown`;
  }
  sortBy(head, column) {
    if (!head.textContent) return;
    const press = button("", () => {
      const cells = this.rows.map((row) => row.cells[column]);
      const numeric = head.className === "n" || cells.some((it) => it.querySelector("meter"));
      const down = head.ariaSort === "ascending";
      for (const other of this.table.tHead.rows[0].cells) other.ariaSort = null;
      head.ariaSort = down ? "descending" : "ascending";
      const keyed = this.order.map((row) => [valueOf(row.cells[column], numeric), row]);
      keyed.sort(([a], [b]) => (down ? compare(b, a) : compare(a, b)));
      this.order = keyed.map(([, row]) => row);
      this.filter();
    });
    press.append(...head.childNodes);
    head.append(press);
  }
  addTools() {
    this.search = make("input", { type: "search", placeholder: "Search", ariaLabel: "Search" });
    this.only = make("input", { type: "checkbox" });
    this.count = make("output");
    this.search.oninput = this.only.onchange = () => {
      this.limit = PAGE;
      this.filter();
    };
    const tools = make("p", { className: "tools" }, this.search);
    if (this.rows.some((row) => row.className === "bad")) {
      tools.append(make("label", {}, this.only, " only what failed"));
    }
    tools.append(this.count);
    this.table.before(tools);
  }
  addMore() {
    this.more = make("p", { className: "more" }, make("output"));
    this.more.append(
      button("Show more", () => this.show(this.limit + PAGE)),
      button("Show all", () => this.show(Infinity)),
    );
    this.more.firstChild.value = `${PAGE} of ${this.rows.length} shown`;
    this.table.after(this.more);
  }
  show(limit) {
    this.limit = limit;
    this.draw();
  }
  filter() {
    const words = this.search?.value.toLowerCase().split(/\s+/).filter(Boolean) ?? [];
    this.wanted = this.order.filter((row) => {
      if (this.only?.checked && row.className !== "bad") return false;
      return !words.length || words.every((word) => this.textOf(row).includes(word));
    });
    const { length } = this.wanted;
    if (this.count) this.count.value = length === this.rows.length ? "" : `${length} of ${this.rows.length}`;
    this.draw();
  }
  textOf(row) {
    if (!this.texts.has(row)) this.texts.set(row, row.textContent.toLowerCase());
    return this.texts.get(row);
  }
  reveal(row) {
    const place = this.wanted.indexOf(row);
    if (place >= this.limit) this.show(place + 1);
    row.scrollIntoView({ block: "center" });
  }
}

const svg = (tag, attributes) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
};

const lightUp = (scope, list) => {
  const places = scope.querySelector(".places")?.getAttribute("d").slice(1).split("M") ?? [];
  for (const place of places) {
    const [cx, cy] = place.split(" ");
    scope.querySelector("svg").append(svg("circle", { class: "place", cx, cy, r: 7 }));
  }
  const marks = scope.querySelectorAll("circle");
  list.rows.forEach((row, i) => {
    const mark = marks[i];
    if (!mark) return;
    const light = (on) => [row, mark].forEach((node) => node.classList.toggle("on", on));
    for (const node of [row, mark]) {
      node.onpointerenter = () => light(true);
      node.onpointerleave = () => light(false);
    }
    mark.onclick = () => list.reveal(row);
    const title = svg("title", {});
    title.textContent = row.cells[0].textContent;
    mark.append(title);
  });
};

const unpacked = async (link) => {
  const packed = Uint8Array.from(atob(link.href.split(",")[1]), (char) => char.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.stringify(await new Response(stream).json(), null, 1);
};

const offerText = (link) => {
  const copy = button("Copy as text", async () => {
    const text = await unpacked(link);
    const area = make("textarea", { readOnly: true, value: text, ariaLabel: "Raw data" });
    copy.replaceWith(make("p", {}, said), area);
    area.select();
    said.value = document.execCommand("copy") ? "Copied." : "Press Ctrl+C to copy.";
  });
  const said = make("output");
  link.closest("p").after(copy);
  if (self === top) return;
  copy.before(make("p", { className: "warn" }, "A page in a frame may not be allowed to download: copy the data, or download this page and open it by itself."));
};

document.documentElement.classList.add("js");
addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".five td:nth-child(5)").forEach(addMeter);
  const lists = new Map([...document.querySelectorAll("table.list")].map((it) => [it, new List(it)]));
  for (const scope of document.querySelectorAll("div.scope")) {
    lightUp(scope, lists.get(scope.querySelector("table.list")));
  }
  for (const link of document.querySelectorAll("a[download]")) offerText(link);
  for (const link of document.querySelectorAll("nav a")) {
    link.onclick = (event) => {
      event.preventDefault(); // in a sandboxed frame the browser does not follow it
      document.querySelector(link.getAttribute("href")).scrollIntoView();
    };
  }
  addEventListener("beforeprint", () => lists.forEach((list) => list.show(Infinity)));
});
