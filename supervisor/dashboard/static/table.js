// A table whose rows stay the same elements while their values change, so that focus and selection survive.

import { el, refill, setText } from "./dom.js";

// Columns: {name, title, value(row), text(row), number, node(row), cls(row), sort: false}.
// `node` makes the content of a cell once for each row; `update(node, row)` brings it up to date.
export class Table {
  constructor(caption, columns, { key, empty, sort = null, onSort = null }) {
    this.columns = columns;
    this.key = key;
    this.empty = empty;
    this.sort = sort;
    this.onSort = onSort;
    this.rows = new Map();
    this.last = [];
    this.heads = new Map(columns.map((column) => [column.name, this.head(column)]));
    this.body = el("tbody");
    this.none = el("p", { class: "empty" }, empty);
    const table = el("table", {}, el("caption", { class: "away" }, caption),
      el("thead", {}, el("tr", {}, ...this.heads.values())), this.body);
    this.wrap = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, table);
    this.element = el("div", { class: "table" }, this.wrap, this.none);
    this.mark();
  }

  head(column) {
    const cls = column.number ? "number" : undefined;
    if (column.sort === false) return el("th", { scope: "col", class: cls, title: column.title }, column.name);
    const button = el("button", { type: "button", title: column.title, onclick: () => this.sortBy(column) }, column.name);
    return el("th", { scope: "col", class: cls }, button);
  }

  sortBy(column) {
    const down = this.sort && this.sort.name === column.name ? !this.sort.down : Boolean(column.number);
    this.sort = { name: column.name, down };
    this.mark();
    this.show(this.last);
  }

  mark() {
    for (const [name, head] of this.heads) {
      if (this.sort && this.sort.name === name) head.setAttribute("aria-sort", this.sort.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  }

  sorted(rows) {
    const column = this.sort && this.columns.find((one) => one.name === this.sort.name);
    if (!column) return rows;
    const sign = this.sort.down ? -1 : 1;
    const of = (row) => column.value(row);
    return [...rows].sort((one, other) => {
      const [a, b] = [of(one), of(other)];
      if (a === b) return 0;
      if (a === null || a === undefined) return 1; // what isn't known comes last, either way
      if (b === null || b === undefined) return -1;
      return (a < b ? -1 : 1) * sign;
    });
  }

  show(rows, empty = this.empty) {
    this.last = rows;
    setText(this.none, empty);
    this.none.hidden = rows.length > 0;
    this.wrap.hidden = rows.length === 0;
    const kept = new Map();
    const wanted = this.sorted(rows).map((row) => {
      const key = String(this.key(row));
      const line = this.rows.get(key) ?? this.line(row);
      kept.set(key, line);
      this.update(line, row);
      return line.element;
    });
    this.rows = kept;
    const there = this.body.children;
    const same = there.length === wanted.length && wanted.every((element, index) => there[index] === element);
    if (!same) this.arrange(wanted);
  }

  // Move only what has to move: an element that is taken out and put back loses its focus.
  arrange(wanted) {
    const stay = new Set(wanted);
    for (const element of [...this.body.children]) if (!stay.has(element)) element.remove();
    const focused = this.body.contains(document.activeElement) ? document.activeElement : null;
    wanted.forEach((element, index) => {
      if (this.body.children[index] !== element) this.body.insertBefore(element, this.body.children[index] ?? null);
    });
    if (focused && document.activeElement !== focused) focused.focus({ preventScroll: true });
  }

  line(row) {
    const cells = this.columns.map((column, index) => {
      const content = column.node ? column.node(row) : null;
      return el(index === 0 ? "th" : "td", { scope: index === 0 ? "row" : undefined, class: column.number ? "number" : undefined }, content);
    });
    return { element: el("tr", {}, ...cells), cells };
  }

  update(line, row) {
    this.columns.forEach((column, index) => {
      const cell = line.cells[index];
      if (column.node) column.update?.(cell.firstChild, row);
      else setText(cell, column.text ? column.text(row) : String(column.value(row) ?? ""));
      if (column.cls) cell.className = `${column.number ? "number " : ""}${column.cls(row)}`;
    });
  }
}

// A share of one, as a bar with its number.
export function bar() {
  return el("span", { class: "bar" }, el("span", { class: "fill" }), el("span", { class: "of" }));
}

export function setBar(node, share, text, hue = null) {
  node.firstChild.style.setProperty("--share", Math.max(0, Math.min(1, share ?? 0)));
  if (hue !== null) node.firstChild.style.setProperty("--hue", hue);
  setText(node.lastChild, text);
}

export function simpleTable(heads, rows) {
  const body = el("tbody");
  refill(body, rows.map((row) => el("tr", {}, ...row.map((cell, index) =>
    el(index ? "td" : "th", { scope: index ? undefined : "row", class: index ? "number" : undefined }, cell)))));
  return el("table", {}, el("thead", {}, el("tr", {}, ...heads.map((head, index) =>
    el("th", { scope: "col", class: index ? "number" : undefined }, head)))), body);
}
