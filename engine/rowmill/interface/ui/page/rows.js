// What became of rows: why some failed, and what stands in the replies.
"use strict";

const rows = (() => {
  const { el, said, worded, more, table, bar, left, pairs } = elements;
  const OPENED = 3; // classes of failures whose examples are shown from the start
  const VALUES = 8; // of a field that are shown from the start

  function failures(facts) {
    if (!facts.failures.length && !facts.faults.length) return null;
    const most = d3.max(facts.failures, (each) => each.rows);
    const [classes, rest] = facts.more_failures;
    return el(
      "div",
      {},
      facts.failures.length
        ? el(
            "p",
            {},
            `${figures.some(facts.totals.failed, "row")} failed, ${figures.share(facts.totals.failed, facts.totals.done)} of those done. What each class means and what to do:`,
          )
        : null,
      facts.failures.map((each, place) => failure(each, most, facts.totals.failed, place < OPENED)),
      classes
        ? el(
            "p",
            { class: "note" },
            `and ${figures.some(classes, "more class").replace("more classs", "more classes")}, ${figures.some(rest, "row")}`,
          )
        : null,
      faults(facts),
    );
  }

  function failure(facts, most, all, open) {
    const summary = el(
      "span",
      { class: "counted" },
      el("code", {}, facts.name),
      bar(facts.rows, most, "bad"),
      el("span", { class: "figure" }, `${figures.some(facts.rows, "row")}, ${figures.share(facts.rows, all)}`),
    );
    return more(
      `failure-${facts.name}`,
      summary,
      el(
        "div",
        { class: "failure", "data-failure": facts.name },
        pairs(
          [
            ["It means", worded(facts.meaning)],
            ["What to do", worded(facts.advice)],
          ],
          "advice",
        ),
        facts.examples.map((example) => shown(example)),
      ),
      { open, kind: "block" },
    );
  }

  /** A failed row: what the server said, what was sent. */
  function shown(example) {
    const about = [
      `row ${figures.count(example.index)}`,
      example.status === null ? null : `HTTP ${example.status}`,
      example.code && `code ${elements.pictured(example.code)}`,
    ]
      .filter(Boolean)
      .join(", ");
    return el(
      "div",
      { class: "example" },
      el("p", { class: "about" }, example.id === null ? null : [said(example.id, "strong"), " "], about),
      said(example.message, "p", { class: "message" }),
      el("div", { class: "sides" }, text("Input", example.input), text("Prompt as sent", example.prompt)),
    );
  }

  const text = (head, value) =>
    value === null ? null : el("div", { class: "text" }, el("h4", {}, head), said(elements.pretty(value), "pre"));

  function faults(facts) {
    if (!facts.faults.length) return null;
    const most = d3.max(facts.faults, (each) => each.requests);
    return el(
      "div",
      {},
      el("h3", {}, "Failed requests"),
      el("p", { class: "note" }, "Whatever became of their rows: most are tried again."),
      table(
        "Failed requests by class",
        [
          { head: "Class", row: true, cell: (each) => el("code", {}, each.name) },
          { head: "Requests", number: true, cell: (each) => figures.count(each.requests) },
          { head: "", kind: "bars", cell: (each) => bar(each.requests, most, "bad") },
          { head: "It means", kind: "prose", cell: (each) => el("span", {}, worded(each.meaning)) },
        ],
        facts.faults,
      ),
    );
  }

  function fields(facts) {
    const found = facts.fields;
    if (!found || !found.fields.length) return null;
    const seen =
      found.looked_at < found.of
        ? `Looked at ${figures.count(found.looked_at)} of ${figures.count(found.of)} replies, from all over the run.`
        : `All ${figures.count(found.of)} replies.`;
    return el(
      "div",
      {},
      el("p", { class: "note" }, seen),
      el("div", { class: "fields" }, found.fields.map(field)),
      left(found.more, "fields"),
    );
  }

  function field(facts) {
    const nulls = facts.null ? `, ${figures.count(facts.null)} null` : "";
    const distinct = facts.distinct === null ? "" : `, ${figures.count(facts.distinct)} different`;
    return el(
      "section",
      { class: "field", "data-field": facts.name },
      el(
        "h3",
        {},
        said(facts.name),
        el(
          "span",
          { class: "unit" },
          ` ${figures.count(facts.rows)} rows${nulls}${facts.kind === "numbers" ? "" : distinct}`,
        ),
      ),
      facts.values.length && facts.kind !== "numbers" ? values(facts) : null,
      facts.numbers ? numbers(facts.numbers, `${facts.name}`, "numbers") : null,
      facts.lengths && facts.kind !== "values" ? numbers(facts.lengths, `${facts.name}, length`, "lengths") : null,
    );
  }

  function values(facts) {
    const most = d3.max(facts.values, ([, count]) => count);
    const list = (some) =>
      el(
        "ul",
        { class: "values" },
        some.map(([value, count]) =>
          el(
            "li",
            {},
            said(value, "span", { class: "value" }),
            bar(count, most),
            el(
              "span",
              { class: "figure" },
              `${figures.count(count)}`,
              el("span", { class: "part" }, ` ${figures.share(count, facts.rows)}`),
            ),
          ),
        ),
      );
    const [first, rest] = [facts.values.slice(0, VALUES), facts.values.slice(VALUES)];
    return el(
      "div",
      {},
      list(first),
      rest.length ? more(`values-${facts.name}`, `${figures.some(rest.length, "more value")}`, list(rest)) : null,
      facts.more ? el("p", { class: "note" }, `${figures.count(facts.more)} with other values`) : null,
    );
  }

  function numbers(facts, title, kind) {
    const draw = (width) =>
      charts.plot({
        width,
        height: 96,
        marginLeft: 12,
        marginRight: 12,
        x: { label: null, ticks: Math.min(6, width / 60), tickFormat: figures.compact },
        y: { axis: null },
        marks: [
          Plot.rect(
            facts.buckets.map(([x1, x2, count]) => ({ x1, x2: x2 > x1 ? x2 : x1 + 1, count })),
            {
              x1: "x1",
              x2: "x2",
              y1: 0,
              y2: "count",
              fill: "var(--accent)",
              fillOpacity: 0.75,
              insetRight: 0.5,
              title: (each) => `${figures.number(each.x1)} to ${figures.number(each.x2)}: ${figures.count(each.count)}`,
            },
          ),
          Plot.ruleX([facts.median], { stroke: "var(--ink)", strokeDasharray: "3 2" }),
          Plot.ruleY([0], { stroke: "currentColor", strokeOpacity: 0.4 }),
        ],
      });
    const told = kind === "lengths" ? (value) => figures.number(value) : (value) => number(value);
    return el(
      "div",
      {},
      kind === "lengths" ? el("p", { class: "note" }, "Length: characters of texts, members of lists") : null,
      facts.buckets.length > 1
        ? charts.framed({
            key: `field-${title}`,
            title: "",
            draw,
            kind: "small",
            label: `${title}: ${figures.count(facts.count)} values from ${told(facts.min)} to ${told(facts.max)}, the median ${told(facts.median)}.`,
            table: () =>
              table(
                title,
                [
                  { head: "from", row: true, cell: (each) => told(each[0]) },
                  { head: "to", number: true, cell: (each) => told(each[1]) },
                  { head: "values", number: true, cell: (each) => figures.count(each[2]) },
                ],
                facts.buckets,
              ),
          })
        : null,
      pairs(
        [
          ["min", told(facts.min)],
          ["median", told(facts.median)],
          ["mean", told(facts.mean)],
          ["max", told(facts.max)],
        ],
        "quantiles",
      ),
    );
  }

  /** A number of a reply, with as many digits as say something. */
  const number = (value) =>
    (Math.abs(value) < 1e-4 && value !== 0) || Math.abs(value) >= 1e15
      ? value.toExponential(2)
      : new Intl.NumberFormat("en-US", { maximumSignificantDigits: Math.abs(value) >= 1000 ? 7 : 4 }).format(value);

  return { failures, fields, text };
})();
