// Elements of the page. Whatever comes from a row or a server becomes a text node, and nothing else.
"use strict";

const elements = (() => {
  /** An element with attributes and children; strings are texts. `style` is an object, `on` has listeners. */
  function el(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes ?? {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "style") for (const [key, each] of Object.entries(value)) made.style.setProperty(key, each);
      else if (name === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
      else made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
    return made;
  }

  // Control characters are shown as their pictures, and what turns the direction of letters round by its name: neither
  // moves anything, and nobody overlooks them.
  const pictured = (text) =>
    String(text)
      .replaceAll("\r\n", "\n")
      .replace(/[\0-\x08\x0b-\x1f\x7f]/g, (character) =>
        character === "\x7f" ? "\u2421" : String.fromCharCode(0x2400 + character.charCodeAt(0)),
      )
      .replace(/[\u202d\u202e]/g, (character) => `[U+${character.charCodeAt(0).toString(16).toUpperCase()}]`);

  /** A text of a row or of a server: in its own direction, broken anywhere, with its line breaks. */
  const said = (text, tag = "span", more = {}) =>
    el(tag, { dir: "auto", ...more, class: `said ${more.class ?? ""}`.trim() }, pictured(text));

  /** Our own words; what is meant for a shell stands between backquotes in them. */
  const worded = (words) =>
    String(words)
      .split("`")
      .map((piece, place) => (place % 2 ? said(piece, "code") : said(piece)));

  /** A reply or a row that is an object or a list, with a line for each member; any other as it is. */
  function pretty(text) {
    if (!/^\s*[[{]/.test(text)) return text;
    try {
      return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      return text;
    }
  }

  /** A moment in the reader's zone, with UTC when it is pointed at. */
  const moment = (at, told = figures.time) =>
    figures.known(at)
      ? el("time", { datetime: new Date(at * 1000).toISOString(), title: figures.utc(at) }, told(at))
      : "–";

  /** What can be opened; `key` tells it apart, so that it stays open when the page is drawn anew. */
  const more = (key, summary, content, { open = false, kind = "" } = {}) =>
    el("details", { "data-key": key, class: kind, open }, el("summary", {}, summary), content);

  /**
   * A table that scrolls by itself where it is wider than the page.
   * columns: [{head, cell: row -> text or node, number: bool, row: bool (the cell names its row)}]
   */
  function table(label, columns, rows, { kind = "" } = {}) {
    const head = el(
      "tr",
      {},
      columns.map((column) => el("th", { scope: "col", class: column.number ? "number" : column.kind }, column.head)),
    );
    const body = rows.map((row, place) =>
      el(
        "tr",
        {},
        columns.map((column) =>
          el(
            column.row ? "th" : "td",
            { scope: column.row ? "row" : null, class: column.number ? "number" : column.kind },
            column.cell(row, place),
          ),
        ),
      ),
    );
    return el(
      "div",
      { class: "wide", role: "region", "aria-label": label, tabindex: "0" },
      el(
        "table",
        { class: kind },
        el("caption", { class: "unseen" }, label),
        el("thead", {}, head),
        el("tbody", {}, body),
      ),
    );
  }

  /** A bar as long as its part of the most; what it says stands beside it as a figure. */
  const bar = (part, most, kind = "") =>
    el(
      "span",
      { class: "bar", "aria-hidden": "true" },
      el("span", {
        class: kind,
        style: { width: `${most > 0 ? Math.max(0.5, Math.min(100, (part / most) * 100)) : 0}%` },
      }),
    );

  /** Terms with what is said of them: [[term, text or node]]; those without anything are left out. */
  const pairs = (entries, kind = "") =>
    el(
      "dl",
      { class: kind },
      entries
        .filter(([, value]) => value !== null && value !== undefined && value !== "")
        .map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value))),
    );

  /**
   * What chooses among rows: a text that they have, and whether they failed. wish: {filter, failed}, what is chosen;
   * it stays when the page is drawn anew. show: is called when that changes. Returns the bar and where it says how many.
   */
  function filters(wish, placeholder, someFailed, show) {
    const found = el("p", { class: "note", role: "status" });
    const text = el("input", {
      type: "search",
      id: "filter",
      placeholder,
      value: wish.filter,
      "aria-label": "Only rows with this text",
    });
    const failed = el("input", { type: "checkbox", id: "only-failed", checked: wish.failed });
    const changed = () => {
      [wish.filter, wish.failed] = [text.value, failed.checked];
      show();
    };
    text.addEventListener("input", changed);
    failed.addEventListener("change", changed);
    return {
      found,
      bar: el(
        "div",
        { class: "filters" },
        el("label", { for: "filter" }, "Filter"),
        text,
        someFailed ? el("label", {}, failed, " failed only") : null,
        found,
      ),
    };
  }

  /** Whether a row is wished for. texts: all of it that may be looked for. */
  const wished = (wish, failed, texts) =>
    (!wish.failed || failed) &&
    (!wish.filter || texts.some((text) => text?.toLowerCase().includes(wish.filter.toLowerCase())));

  /** What is made, or a line that says that it cannot be: nothing else of the page is lost with it. */
  function tried(make) {
    try {
      return make();
    } catch (error) {
      console.error(error);
      return el(
        "p",
        { class: "problem" },
        `This part could not be drawn (${error}). `,
        ...worded("`rowmill report --json` has its figures."),
      );
    }
  }

  /** "and 12 more ..." where some are left out. */
  const left = (howMany, what) =>
    howMany ? el("p", { class: "note" }, `and ${figures.count(howMany)} more ${what}`) : null;

  return { el, said, pictured, worded, pretty, moment, more, table, bar, pairs, filters, wished, tried, left };
})();
