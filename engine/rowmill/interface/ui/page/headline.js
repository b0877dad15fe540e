// The first thing that is seen: how the run stands, in words and in a few figures.
"use strict";

const headline = (() => {
  const { el, said, moment, pairs } = elements;
  const STATES = { running: "Running", finished: "Finished", stopped: "Stopped", killed: "Killed" };

  const tile = (name, value, below, kind = "") =>
    el(
      "div",
      { class: `tile ${kind}`, "data-tile": name },
      el("dt", {}, name),
      el("dd", {}, el("strong", {}, value), below ? el("span", { class: "below" }, below) : null),
    );

  function section(facts) {
    const { run, totals, cost } = facts;
    const state = run.state === "finished" && totals.failed ? "finished failures" : run.state;
    return el(
      "div",
      {},
      el(
        "p",
        { class: "eyebrow" },
        el("span", { class: `state ${state}` }, STATES[run.state] ?? run.state),
        " run ",
        el("code", {}, run.id),
      ),
      el("h1", { id: "headline" }, title(totals, run.state)),
      el("p", { class: "words" }, elements.worded(run.words)),
      progress(totals, run.state),
      el("dl", { class: "tiles" }, tiles(totals, cost)),
      run.next ? el("p", { class: "next" }, el("span", { class: "label" }, "Next: "), elements.worded(run.next)) : null,
      run.state === "running" && run.slowed_by
        ? el("p", { class: "next" }, el("span", { class: "label" }, "Slowed by "), said(run.slowed_by))
        : null,
      facts.problems.map((problem) => el("p", { class: "problem" }, said(problem))),
      notices(run.notices),
      pairs(
        [
          ["Input", said(run.input)],
          ["Output", said(run.output)],
          ["Failed rows", run.errors && said(run.errors)],
          ["Run directory", said(run.run_dir)],
          ["Started", run.started === null ? null : moment(run.started)],
          ["Ended", run.ended === null ? null : moment(run.ended)],
        ],
        "places",
      ),
    );
  }

  function title(totals, state) {
    const of =
      totals.rows === null || (state === "finished" && totals.rows === totals.done)
        ? ""
        : ` of ${figures.count(totals.rows)}`;
    const failed = totals.failed ? `, ${figures.count(totals.failed)} of them failed` : "";
    return `${figures.count(totals.done)}${of} row${totals.done === 1 && !of ? "" : "s"} done${failed}`;
  }

  function progress(totals, state) {
    if (state === "finished" || !totals.rows) return null;
    const part = Math.min(1, totals.done / totals.rows);
    return el(
      "div",
      {
        class: `progress ${state}`,
        role: "progressbar",
        "aria-label": "Rows done",
        "aria-valuemin": "0",
        "aria-valuemax": String(totals.rows),
        "aria-valuenow": String(totals.done),
        "aria-valuetext": `${figures.share(totals.done, totals.rows)} of the rows`,
      },
      el("span", { class: "done", style: { width: `${part * 100}%` } }),
      el("span", { class: "told" }, figures.share(totals.done, totals.rows)),
    );
  }

  function tiles(totals, cost) {
    const made = [
      tile(
        "Rows done",
        figures.count(totals.done),
        totals.rows === null
          ? "of a number not counted yet"
          : `of ${figures.count(totals.rows)}, ${figures.share(totals.done, totals.rows)}`,
      ),
      tile(
        "Failed",
        figures.count(totals.failed),
        totals.done ? `${figures.share(totals.failed, totals.done)} of the rows done` : "",
        totals.failed ? "bad" : "",
      ),
      tile("Time at work", figures.duration(totals.elapsed_s), figures.rate(totals.rows_per_s, "rows")),
    ];
    if (cost) made.push(tile("Cost", figures.money(cost.usd), costs(cost)), ...savings(cost, totals));
    made.push(
      tile(
        "Requests",
        figures.count(totals.requests),
        `${figures.some(totals.retries, "retry").replace("retrys", "retries")}`,
      ),
      tile(
        "Tokens",
        figures.compact(totals.prompt_tokens + totals.completion_tokens),
        `${figures.compact(totals.prompt_tokens)} in, ${figures.compact(totals.completion_tokens)} out`,
      ),
      tile(
        "Billed twice",
        totals.billed_twice_max ? `≤ ${figures.count(totals.billed_twice_max)}` : "0",
        totals.billed_twice_max ? "requests, at the very most" : "requests: none can be",
      ),
    );
    return made;
  }

  function costs(cost) {
    if (cost.usd === null)
      return cost.unpriced.length
        ? `no price known of ${elements.pictured(cost.unpriced.slice(0, 3).join(", "))}`
        : "no price known";
    const cap =
      cost.max_usd === null
        ? ""
        : `${figures.used(money.spent(cost), cost.max_usd)} of the cap of ${figures.money(cost.max_usd)}`;
    const whole =
      cost.projected_usd === null || cost.projected_usd <= cost.usd * 1.001
        ? ""
        : `${figures.money(cost.projected_usd)} for all rows`;
    return [cap, whole].filter(Boolean).join("; ");
  }

  function savings(cost, totals) {
    const parts = [
      [cost.cache_usd, "identical rows and cache"],
      [cost.packs_usd, "packs"],
      [cost.batches_usd, "batches"],
    ].filter(([usd]) => usd > 0);
    if (parts.length)
      return [
        tile(
          "Saved",
          figures.money(d3.sum(parts, ([usd]) => usd)),
          `by ${parts.map(([, by]) => by).join(", ")}`,
          "good",
        ),
      ];
    const spared = totals.cached + totals.duplicates;
    return spared ? [tile("Saved", `${figures.count(spared)} requests`, "identical rows and cache", "good")] : [];
  }

  function notices(found) {
    if (!found.length) return null;
    const list = el(
      "ul",
      { class: "notices" },
      found.map((notice) => el("li", {}, said(notice))),
    );
    return elements.more("notices", `Notices: ${figures.count(found.length)}`, list, {
      open: found.length <= 5,
      kind: "block",
    });
  }

  return { section, tile };
})();
