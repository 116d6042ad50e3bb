// Tables whose rows are kept by key: a row under the pointer or the focus is not replaced every second.

import { el, mark, say } from "./dom.js";

export class Table {
  // columns: [{title, short?, text(row), isNumber?, href?(row), tone?(row), hint?(row)}]; short is for narrow screens
  constructor(host, label, columns, options = {}) {
    this.columns = columns;
    this.keyOf = options.key ?? ((row, at) => at);
    this.badIf = options.badIf ?? (() => false);
    this.rows = new Map();
    this.empty = el("p", { class: "empty" }, options.empty ?? "None.");
    this.body = el("tbody", { role: "rowgroup" });
    const head = columns.map((column) =>
      el("th", { scope: "col", role: "columnheader", class: column.isNumber ? "number" : null }, column.title),
    );
    this.table = el(
      "table",
      { role: "table", "aria-label": label, class: options.isStacked === false ? null : "stacked" },
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...head)),
      this.body,
    );
    host.replaceChildren(el("div", { class: "scroll" }, this.table), this.empty);
  }

  update(rows) {
    const stale = new Map(this.rows);
    rows.forEach((row, at) => {
      const key = this.keyOf(row, at);
      stale.delete(key);
      const line = this.rows.get(key) ?? this.newLine(key);
      this.fill(line, row);
      if (this.body.children[at] !== line.node) this.body.insertBefore(line.node, this.body.children[at] ?? null);
    });
    for (const [key, line] of stale) {
      line.node.remove();
      this.rows.delete(key);
    }
    this.table.hidden = rows.length === 0;
    this.empty.hidden = rows.length > 0;
  }

  newLine(key) {
    const cells = this.columns.map((column) => {
      const inner = column.href ? el("a", { "data-nav": true }) : el("span");
      return { inner, cell: el("td", { role: "cell", class: column.isNumber ? "number" : null, "data-label": column.short ?? column.title }, inner) };
    });
    const line = { cells, node: el("tr", { role: "row" }, ...cells.map(({ cell }) => cell)) };
    this.rows.set(key, line);
    return line;
  }

  fill(line, row) {
    this.columns.forEach((column, at) => {
      const { inner, cell } = line.cells[at];
      const text = column.text(row);
      say(inner, text);
      cell.classList.toggle("void", text === "");
      const href = column.href?.(row) ?? null;
      if (href !== null) inner.setAttribute("href", href);
      else inner.removeAttribute("href");
      if (column.tone) cell.dataset.tone = column.tone(row) ?? "";
      if (column.hint) cell.title = column.hint(row) ?? "";
    });
    mark(line.node, "bad-row", this.badIf(row));
  }
}

export function facts(host, pairs) {
  const known = host.querySelectorAll("dd");
  if (known.length !== pairs.length) {
    host.replaceChildren(...pairs.map(([name]) => el("div", {}, el("dt", {}, name), el("dd"))));
  }
  host.querySelectorAll(":scope > div").forEach((box, at) => {
    const [name, text, isBad] = pairs[at];
    say(box.firstElementChild, name);
    say(box.lastElementChild, text);
    mark(box, "bad", isBad);
  });
}
