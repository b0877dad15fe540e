// Two runs beside each other: what each took, in how many rows they agree, and what differs, word by word.
"use strict";

const compare = (() => {
  const { el, said, pictured, table, bar, left } = elements;
  const SIDES = ["first", "second"];
  const wish = { filter: "", failed: false }; // stays when the page is drawn anew

  function summary(facts) {
    const { whole, common } = facts;
    const same = whole.both ? figures.share(whole.same, whole.both) : "–";
    return el(
      "div",
      {},
      el("p", { class: "eyebrow" }, "Two runs compared"),
      el("h1", { id: "headline" }, title(whole)),
      el(
        "dl",
        { class: "tiles" },
        headline.tile("Answered in both", figures.count(common), "rows"),
        headline.tile("The same", figures.count(whole.same), same),
        headline.tile("Only in the first", figures.count(facts.only[0]), "rows with an outcome"),
        headline.tile("Only in the second", figures.count(facts.only[1]), "rows with an outcome"),
      ),
    );
  }

  const FIGURES = [
    ["Rows done", (side) => side.rows, figures.count],
    ["Failed", (side) => side.failed, figures.count],
    ["Cost", (side) => side.usd, figures.money],
    [
      "Cost of 1,000 rows",
      (side) => (figures.known(side.usd) && side.rows ? (side.usd / side.rows) * 1000 : null),
      figures.money,
    ],
    ["Tokens in", (side) => side.prompt_tokens, figures.count],
    ["Tokens out", (side) => side.completion_tokens, figures.count],
    ["Latency, p50", (side) => side.latency_ms?.p50, figures.milliseconds],
    ["Latency, p90", (side) => side.latency_ms?.p90, figures.milliseconds],
    ["Latency, p99", (side) => side.latency_ms?.p99, figures.milliseconds],
  ];

  function title({ both, same }) {
    if (!both) return "No row has an answer in both runs";
    if (same === both) return "All answers are the same";
    return same ? `${figures.share(same, both)} of the answers are the same` : "No answer is the same";
  }

  /** How the second differs from the first: "+$0.12, +40.0%". */
  function difference(one, other, told) {
    if (!figures.known(one) || !figures.known(other)) return "–";
    if (one === other) return "the same";
    const sign = other > one ? "+" : "−";
    const part = one ? `, ${sign}${((Math.abs(other - one) / one) * 100).toFixed(1)}%` : "";
    return `${sign}${told(Math.abs(other - one))}${part}`;
  }

  function sides(facts) {
    const [one, other] = facts.sides;
    return el(
      "div",
      {},
      elements.pairs(
        [
          ["First run", said(one.run_dir)],
          ["Second run", said(other.run_dir)],
        ],
        "places",
      ),
      table(
        "What each run took",
        [
          { head: "", row: true, cell: ([name]) => name },
          { head: "First", number: true, cell: ([, of, told]) => told(of(one)) },
          { head: "Second", number: true, cell: ([, of, told]) => told(of(other)) },
          { head: "Difference", number: true, cell: ([, of, told]) => difference(of(one), of(other), told) },
        ],
        FIGURES.filter(([, of]) => facts.sides.some((side) => figures.known(of(side)))),
        { kind: "beside" },
      ),
    );
  }

  function agreement(facts) {
    if (!facts.fields.length) return null;
    const sorted = facts.fields.toSorted((a, b) => a.same / a.both - b.same / b.both);
    return el(
      "div",
      {},
      el(
        "p",
        { class: "note" },
        "In how many of the rows that have the field in both runs it is the same; the least first.",
      ),
      table(
        "Agreement of fields",
        [
          { head: "Field", row: true, cell: (each) => said(each.name) },
          { head: "The same", number: true, cell: (each) => figures.share(each.same, each.both) },
          { head: "", kind: "bars", cell: (each) => bar(each.same, each.both) },
          { head: "Rows", number: true, cell: (each) => figures.count(each.same) },
          { head: "of", number: true, cell: (each) => figures.count(each.both) },
        ],
        sorted,
      ),
      left(facts.more_fields, "fields"),
    );
  }

  /** Whether a piece of a difference is of one side (0 or 1), too. */
  const isOf = (whose, side) => whose === "same" || whose === SIDES[side];

  /** The text of one side of a row: its pieces, one behind the other. */
  const text = (row, side) =>
    row.diff
      .filter(([whose]) => isOf(whose, side))
      .map(([, piece]) => piece)
      .join("");

  /** The same with what only that side has marked. */
  const marked = (row, side) =>
    el(
      "div",
      { class: "text" },
      el(
        "h4",
        {},
        side ? "Second run" : "First run",
        row.failed[side] ? el("span", { class: "failed" }, " failed") : null,
      ),
      el(
        "pre",
        { class: "said", dir: "auto" },
        row.diff
          .filter(([whose]) => isOf(whose, side))
          .map(([whose, piece]) =>
            whose === "same" ? pictured(piece) : el(side ? "ins" : "del", {}, pictured(piece)),
          ),
      ),
    );

  function differing(facts) {
    const all = facts.differing;
    if (!all.length) return null;
    const list = el("div", {});
    const anyFailed = (row) => row.failed.some(Boolean);
    const { bar: choice, found } = elements.filters(wish, "text of an answer", all.some(anyFailed), show);

    function show() {
      const seen = all.filter((row) => elements.wished(wish, anyFailed(row), [row.id, text(row, 0), text(row, 1)]));
      found.textContent =
        seen.length === all.length
          ? figures.some(all.length, "row")
          : `${figures.count(seen.length)} of these ${figures.count(all.length)} rows`;
      list.replaceChildren(
        ...seen.map((row) =>
          el(
            "article",
            { class: "difference", "aria-label": `Row ${row.index}` },
            el(
              "p",
              { class: "about" },
              el("strong", {}, `Row ${figures.count(row.index)}`),
              row.id === null ? null : [" ", said(row.id)],
            ),
            el("div", { class: "sides" }, marked(row, 0), marked(row, 1)),
          ),
        ),
      );
    }

    show();
    return el(
      "div",
      {},
      el("p", { class: "note" }, "Words of the first run alone are struck out, those of the second alone underlined."),
      choice,
      list,
      left(facts.more_differing, "rows that differ"),
    );
  }

  return {
    sections: [
      ["summary", null, summary],
      ["sides", "What each took", sides],
      ["agreement", "Fields", agreement],
      ["differing", "Rows that differ", differing],
    ],
  };
})();
