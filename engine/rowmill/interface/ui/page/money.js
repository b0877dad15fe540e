// What it cost, over time and by model, with what it will come to and where it stops.
"use strict";

const money = (() => {
  const { el, said, table, pairs, left } = elements;
  const EARLY = 0.05; // of the rows done: before that a projection would be all of the chart
  const FAR = 4; // a cap that is so many times what is spent is told, and not drawn

  function section(facts) {
    const { cost } = facts;
    if (!cost) return null;
    return el("div", {}, cost.usd === null ? null : overTime(facts), entries(cost), lines(cost));
  }

  /** What counts against a cap: what was spent, and what may have been billed beside it. */
  const spent = (cost) => (cost.usd ?? 0) + (cost.lost_usd ?? 0);

  function entries(cost) {
    const cap = (value, max, told) =>
      max === null
        ? null
        : `${told(max)}, ${value === null ? "how much is used is unknown" : `${figures.used(value, max)} used`}`;
    return pairs(
      [
        ["Spent", cost.usd === null ? null : figures.money(cost.usd)],
        ["For all rows", cost.projected_usd === null ? null : `about ${figures.money(cost.projected_usd)}`],
        ["Cap", cap(cost.usd === null ? null : spent(cost), cost.max_usd, figures.money)],
        ["Cap on tokens", cap(cost.tokens, cost.max_tokens, figures.count)],
        ["Cap on requests", cap(cost.requests, cost.max_requests, figures.count)],
        ["Saved by identical rows and cache", cost.cache_usd > 0 ? figures.money(cost.cache_usd) : null],
        ["Saved by packs", cost.packs_usd > 0 ? figures.money(cost.packs_usd) : null],
        ["Saved by batches", cost.batches_usd > 0 ? figures.money(cost.batches_usd) : null],
        ["Of it, replies that were no valid answers", cost.retries_usd > 0 ? figures.money(cost.retries_usd) : null],
        [
          "Beside it, billed perhaps without a reply",
          cost.lost_usd > 0 ? `${figures.money(cost.lost_usd)} (estimated)` : null,
        ],
        ["Beside it, for what is under way", cost.reserved_usd > 0 ? figures.money(cost.reserved_usd) : null],
        ["No price is known of", cost.unpriced.length ? said(cost.unpriced.join(", ")) : null],
      ],
      "entries",
    );
  }

  function lines(cost) {
    if (!cost.lines.length) return null;
    const count = (name) => ({ number: true, cell: (line) => figures.count(line[name]) });
    return el(
      "div",
      {},
      table(
        "Cost by provider and model",
        [
          { head: "Model", row: true, cell: (line) => said(line.model) },
          { head: "Provider", cell: (line) => said(line.provider) },
          { head: "Mode", cell: (line) => line.mode },
          { head: "Requests", ...count("requests") },
          { head: "Tokens in", ...count("prompt_tokens") },
          { head: "of them cached", ...count("cached_tokens") },
          { head: "Tokens out", ...count("completion_tokens") },
          { head: "Cost", number: true, cell: (line) => figures.money(line.usd) },
        ],
        cost.lines,
      ),
      left(cost.more_lines, "lines"),
    );
  }

  function overTime(facts) {
    const { timeline: data, cost, totals } = facts;
    if (!data.at.length || !(cost.usd > 0)) return null;
    const seen = timeline.view(facts);
    const sums = Object.entries(data.usd_by).map(([name, column]) => [name, d3.sum(column)]);
    const { names, rest } = charts.largest(sums.length ? sums : [["all", 1]]);
    const colour = names.length > 1 ? charts.colours(names) : new Map(names.map((name) => [name, "var(--accent)"]));
    const series = names.map((name) => {
      const own = name === "more" ? rest : [name];
      const column = d3.cumsum(data.at, (_, place) =>
        sums.length ? d3.sum(own, (each) => data.usd_by[each][place]) : data.usd[place],
      );
      return {
        name: name === "more" && rest.length > 1 ? `${figures.count(rest.length)} others` : name,
        colour: colour.get(name),
        kind: names.length > 1 ? "stack" : "area",
        value: (step) => column[step.places.at(-1)],
        told: figures.money,
        figure: figures.money(column.at(-1)),
      };
    });
    const far = cost.max_usd !== null && cost.max_usd > FAR * Math.max(cost.usd, ahead(cost, totals) ?? 0);
    const rules = [];
    if (cost.max_usd !== null && !far)
      rules.push({ y: cost.max_usd, name: `cap ${figures.money(cost.max_usd)}`, colour: "var(--bad)" });
    if (ahead(cost, totals))
      rules.push({
        y: cost.projected_usd,
        name: `about ${figures.money(cost.projected_usd)} for all rows`,
        colour: "var(--muted)",
      });
    return timeline.chart(seen, {
      key: "cost",
      title: "Cost",
      unit: names.length > 1 ? "in dollars, by model, added up" : "in dollars, added up",
      series,
      lines: rules,
      height: 200,
      format: figures.money,
      entries: series.map((each) => ({ name: each.name, colour: each.colour, figure: each.figure })),
      label: `Cost over time: ${figures.money(cost.usd)} in all${cost.max_usd === null ? "" : `, of a cap of ${figures.money(cost.max_usd)}`}.`,
      note: far ? `The cap of ${figures.money(cost.max_usd)} is far above.` : null,
    });
  }

  /** What all rows will cost, where that is more than was spent and can be drawn. */
  const ahead = (cost, totals) =>
    cost.projected_usd !== null &&
    cost.projected_usd > cost.usd * 1.02 &&
    totals.rows &&
    totals.done >= totals.rows * EARLY
      ? cost.projected_usd
      : null;

  return { section, spent };
})();
