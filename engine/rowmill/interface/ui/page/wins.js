// Who wins of each two that steps compare: shares, with the bounds between which they lie with 95%.
"use strict";

const wins = (() => {
  const { el, said, table, bar } = elements;

  function section(facts) {
    const found = facts.win_rates;
    return found.length ? el("div", {}, found.map(compared)) : null;
  }

  function compared(rates) {
    const [first, second] = rates.between;
    const shares = [
      { name: said(first), ...rates.wins[0] },
      { name: said(second), ...rates.wins[1] },
      { name: "tie", ...rates.ties },
    ];
    const shown = table(
      `Who wins: ${elements.pictured(first)} or ${elements.pictured(second)}`,
      [
        { head: "Better", row: true, cell: (each) => each.name },
        { head: "Rows", number: true, cell: (each) => figures.count(each.rows) },
        { head: "Share", number: true, cell: (each) => percent(each.share) },
        { head: "", kind: "bars", cell: (each) => bar(each.share, 1) },
        { head: "Between, with 95%", number: true, cell: (each) => bounds(each) },
      ],
      shares,
    );
    return el("div", {}, shown, ...words(rates).map((line) => el("p", {}, line)));
  }

  function words(rates) {
    const judges = rates.judges.flatMap((name, place) => [place ? ", " : " Judged by ", said(name)]);
    const lines = [[...better(rates), ...judges, "."]];
    if (rates.in_both_orders) {
      const [before, after] = rates.in_both_orders;
      lines.push(
        `What stood first won in both orders in ${figures.some(before, "row")}, what stood second in ${figures.count(after)}: ties.`,
      );
    }
    if (rates.unreadable + rates.incomplete > 0) {
      lines.push(
        `Not counted: ${figures.some(rates.unreadable, "row")} with a verdict that is not first, second or tie, ${figures.count(rates.incomplete)} without one of the verdicts.`,
      );
    }
    return lines;
  }

  /** Which one is better, and its part of the rows that are no tie. */
  function better(rates) {
    const [[first, second], decided] = [rates.between, rates.wins[0].rows + rates.wins[1].rows];
    const of = ` of the ${figures.some(decided, "row")} that ${decided === 1 ? "is" : "are"} no tie.`;
    const { share, low, high } = rates.decided;
    if (!decided) return ["Neither is shown to be better."];
    if (rates.better === second)
      return [said(second), ` is better: it has ${bounded({ share: 1 - share, low: 1 - high, high: 1 - low })}${of}`];
    return rates.better === null
      ? ["Neither is shown to be better: ", said(first), ` has ${bounded(rates.decided)}${of}`]
      : [said(first), ` is better: it has ${bounded(rates.decided)}${of}`];
  }

  const percent = (share) => `${(share * 100).toFixed(1)}%`;
  const bounded = (each) => `${percent(each.share)} (${bounds(each)})`;
  const bounds = (each) => `${percent(each.low)} to ${percent(each.high)}`;

  return { section };
})();
