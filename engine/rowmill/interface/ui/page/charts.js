// What all charts share: their frame with name, legend and table, their size, their colours, marks beside their lines.
"use strict";

const charts = (() => {
  const { el } = elements;
  const SERIES = 7; // colours that can be told apart; what is left has one colour together
  const LINE_PX = 13; // of letters below each other
  const NARROW = 560; // px of a chart below which there is little room for labels
  let drawn = []; // {place, draw, width} of all that are on the page

  /** A colour for each of several names; "more" and what comes after the seventh is grey. */
  const colours = (names) =>
    new Map(
      names.map((name, place) => [
        name,
        name === "more" || place >= SERIES ? "var(--rest)" : `var(--series-${place + 1})`,
      ]),
    );

  /** The names with the largest totals, and which are put together as "more". totals: [[name, number]]. */
  function largest(totals, most = SERIES) {
    const sorted = totals.filter(([, total]) => total > 0).sort((a, b) => b[1] - a[1]);
    const named = sorted.filter(([name]) => name !== "more");
    const kept = named.length > most ? named.slice(0, most - 1) : named;
    const rest = sorted.filter((each) => !kept.includes(each));
    const names = kept.map(([name]) => name);
    return { names: rest.length ? [...names, "more"] : names, rest: rest.map(([name]) => name) };
  }

  /** What colours and strokes mean: [{name, colour, kind: "area" | "line" | "dash", figure}]. */
  const legend = (entries) =>
    el(
      "ul",
      { class: "legend" },
      entries.map((entry) =>
        el(
          "li",
          {},
          el("span", {
            class: `key ${entry.kind ?? "area"}`,
            style: { "--colour": entry.colour },
            "aria-hidden": "true",
          }),
          elements.said(entry.name),
          entry.figure ? el("span", { class: "figure" }, ` ${entry.figure}`) : null,
        ),
      ),
    );

  /**
   * A chart in its frame.
   * label: what it shows, in words, for who does not see it. draw: width -> SVG. table: makes the same as a table.
   */
  function framed({ key, title, unit = "", label, draw, entries = [], table = null, note = null, kind = "" }) {
    const place = el("div", { class: "plot" });
    drawn.push({ place, draw, label, width: 0 });
    const figures_of = table && lazily(key, table);
    return el(
      "figure",
      { class: kind, "data-chart": key },
      el(
        "figcaption",
        {},
        el("span", { class: "title" }, title),
        unit ? el("span", { class: "unit" }, ` ${unit}`) : null,
        entries.length ? legend(entries) : null,
      ),
      place,
      note ? el("p", { class: "note" }, note) : null,
      figures_of,
    );
  }

  /** A table that is made when it is opened: few are. */
  function lazily(key, make) {
    const details = elements.more(`table-${key}`, "As a table", el("div", {}), { kind: "figures" });
    details.addEventListener("toggle", () => {
      const holder = details.lastElementChild;
      if (details.open && !holder.hasChildNodes()) holder.append(make());
    });
    return details;
  }

  /** Draw every chart that is on the page and is not yet drawn for the width it has. */
  function fit() {
    drawn = drawn.filter((each) => each.place.isConnected);
    const widths = drawn.map((each) => Math.floor(each.place.clientWidth)); // of all, before drawing one lays out anew
    drawn.forEach((each, place) => {
      if (!widths[place] || widths[place] === each.width) return;
      each.width = widths[place];
      const shown = elements.tried(() => each.draw(each.width));
      if (shown.tagName !== "P") {
        shown.setAttribute("role", "img");
        shown.setAttribute("aria-label", each.label);
      }
      each.place.replaceChildren(shown);
    });
  }

  /** A plot in the page's own letters. */
  const plot = (options) =>
    Plot.plot({
      marginTop: 8,
      marginBottom: 24,
      ...options,
      style: { fontSize: "11.5px", overflow: "visible", ...options.style },
    });

  /** What is told of what is pointed at. */
  const tip = (data, options) => Plot.tip(data, { ...options, lineHeight: 1.35 });

  /** Names at the ends of lines, moved apart where they would cover each other. ends: [{name, y, colour}]. */
  function ends(entries, { height, domain, x }) {
    const [bottom, top] = [height - 24, 8];
    const at = (y) => bottom - (y / (domain || 1)) * (bottom - top);
    const sorted = entries.map((entry) => ({ ...entry, wanted: at(entry.y) })).sort((a, b) => a.wanted - b.wanted);
    let edge = -Infinity;
    for (const entry of sorted) edge = entry.placed = Math.max(entry.wanted, edge + LINE_PX);
    edge = bottom + LINE_PX;
    for (const entry of sorted.toReversed()) edge = entry.placed = Math.min(entry.placed, edge - LINE_PX);
    return sorted.map((entry) =>
      Plot.text([entry], {
        x: () => x,
        y: "y",
        text: "name",
        textAnchor: "start",
        dx: 6,
        dy: entry.placed - entry.wanted,
        fill: entry.colour,
        stroke: "var(--paper)",
        strokeWidth: 3,
      }),
    );
  }

  return { SERIES, NARROW, colours, largest, legend, framed, fit, plot, tip, ends };
})();
