// The section of what was done over time: rows, requests, room, faults, tokens, the machine.
"use strict";

const pace = (() => {
  const { el } = elements;
  const FAR = 3; // a limit that is so many times what was used is told, and not drawn

  const any = (column) => column.some((value) => value > 0);
  const rated = (of) => (value) => figures.rate(value, of);

  function section(facts) {
    const data = facts.timeline;
    if (!data.at.length) return null;
    const seen = timeline.view(facts);
    return el(
      "div",
      {},
      happened.strip(seen),
      rows(seen),
      happened.events(seen),
      requests(seen),
      room(seen),
      providers(seen),
      faults(seen),
      tokens(seen),
      el("div", { class: "small-charts" }, machine(seen)),
    );
  }

  function rows(seen) {
    const { data, facts, per } = seen;
    if (!any(data.rows)) return null;
    const series = [
      { name: "rows", value: per(data.rows), kind: "area", colour: "var(--accent)", told: rated("rows") },
    ];
    if (any(data.failed))
      series.push({
        name: "of them failed",
        value: per(data.failed),
        kind: "area",
        colour: "var(--bad)",
        told: rated("rows"),
      });
    return timeline.chart(seen, {
      key: "rows",
      title: "Rows",
      unit: "per second",
      height: 200,
      series,
      label: `Rows per second over ${figures.duration(seen.scale.worked)} at work, ${figures.rate(facts.totals.rows_per_s, "rows")} on average.`,
    });
  }

  /** What the limits of all providers let through together; NaN where one has none. */
  function limit(seen, name) {
    const columns = seen.data.providers.map((provider) => provider[name]);
    if (!columns.length || seen.data.more_providers) return null;
    const whole = seen.data.at.map((_, place) =>
      columns.every((column) => column[place] !== null) ? d3.sum(columns, (column) => column[place]) : NaN,
    );
    return whole.some((value) => value > 0) ? whole : null;
  }

  function limited(seen, column, used, of) {
    if (!column) return { series: [], note: null };
    const usual = d3.median(column.filter((value) => value > 0));
    if (usual > FAR * used)
      return {
        series: [],
        note: `The limits in force let through ${figures.rate(usual, of)}, far more than was used.`,
      };
    return {
      note: null,
      series: [
        {
          name: "limit in force",
          short: "limit",
          named: true,
          value: seen.held(column),
          kind: "step",
          colour: "var(--warn)",
          told: rated(of),
        },
      ],
    };
  }

  const highest = (seen, column) => d3.max(seen.stepped(400), seen.per(column)) || 0;

  function requests(seen) {
    const { data, facts, per } = seen;
    if (!any(data.requests)) return null;
    const bound = limited(seen, limit(seen, "requests_per_s"), highest(seen, data.requests), "requests");
    const series = [
      {
        name: "requests",
        named: true,
        value: per(data.requests),
        kind: "line",
        colour: "var(--series-1)",
        told: rated("requests"),
        figure: figures.count(facts.totals.requests),
      },
    ];
    if (any(data.retries))
      series.push({
        name: "of them retries",
        short: "retries",
        named: true,
        value: per(data.retries),
        kind: "line",
        colour: "var(--series-2)",
        told: rated("requests"),
        figure: figures.count(facts.totals.retries),
      });
    series.push(...bound.series);
    return timeline.chart(seen, {
      key: "requests",
      title: "Requests",
      unit: "per second",
      series,
      note: bound.note,
      label: `Requests per second, ${figures.count(facts.totals.requests)} in all, ${figures.count(facts.totals.retries)} of them retries.`,
    });
  }

  function room(seen) {
    const { data, held } = seen;
    if (!any(data.in_flight) && !any(data.allowed)) return null;
    const plain = (value) => figures.number(Math.round(value * 10) / 10);
    const series = [
      {
        name: "in flight",
        named: true,
        value: held(data.in_flight),
        kind: "area",
        colour: "var(--series-3)",
        told: plain,
      },
      { name: "allowed", named: true, value: held(data.allowed), kind: "step", colour: "var(--warn)", told: plain },
    ];
    if (any(data.waiting))
      series.push({
        name: "rows waiting to be tried again",
        short: "waiting",
        named: true,
        value: held(data.waiting),
        kind: "line",
        colour: "var(--series-4)",
        told: plain,
      });
    return timeline.chart(seen, {
      key: "concurrency",
      title: "Concurrency",
      unit: "requests at a time",
      series,
      label: `Requests in flight and allowed at a time; at most ${plain(d3.max(data.in_flight))} in flight.`,
    });
  }

  /** Many series as one stack: the largest by their names, the others together. */
  function stack(seen, totals, columns) {
    const { names, rest } = charts.largest(totals);
    const colour = charts.colours(names);
    return names.map((name) => {
      const own = name === "more" ? rest : [name];
      const column = seen.data.at.map((_, place) => d3.sum(own, (each) => columns[each][place]));
      return {
        name: name === "more" && rest.length > 1 ? `${figures.count(rest.length)} others` : name,
        value: seen.per(column),
        kind: "stack",
        colour: colour.get(name),
        told: rated("requests"),
        figure: figures.count(d3.sum(column)),
      };
    });
  }

  function providers(seen) {
    const { data } = seen;
    if (data.providers.length < 2) return null;
    const columns = Object.fromEntries(data.providers.map((provider) => [provider.name, provider.requests]));
    const series = stack(
      seen,
      data.providers.map((provider) => [provider.name, d3.sum(provider.requests)]),
      columns,
    );
    return series.length
      ? timeline.chart(seen, {
          key: "by-provider",
          title: "Requests by provider",
          unit: "per second, stacked",
          series,
          label: `Requests per second by provider: ${series.map((each) => `${each.name} ${each.figure}`).join(", ")} in all.`,
          note: data.more_providers ? `${figures.count(data.more_providers)} more providers are left out.` : null,
        })
      : null;
  }

  function faults(seen) {
    const { data } = seen;
    const series = stack(
      seen,
      Object.entries(data.faults).map(([name, column]) => [name, d3.sum(column)]),
      data.faults,
    );
    return series.length
      ? timeline.chart(seen, {
          key: "faults",
          title: "Failed requests by class",
          unit: "per second, stacked",
          series,
          label: `Failed requests per second by class: ${series.map((each) => `${each.name} ${each.figure}`).join(", ")} in all.`,
        })
      : null;
  }

  function tokens(seen) {
    const { data, per } = seen;
    if (!any(data.prompt_tokens) && !any(data.completion_tokens)) return null;
    const bound = limited(
      seen,
      limit(seen, "tokens_per_s"),
      highest(
        seen,
        data.prompt_tokens.map((value, place) => value + data.completion_tokens[place]),
      ),
      "tokens",
    );
    const series = [
      {
        name: "prompts",
        named: true,
        value: per(data.prompt_tokens),
        kind: "line",
        colour: "var(--series-1)",
        told: rated("tokens"),
        figure: figures.count(d3.sum(data.prompt_tokens)),
      },
      {
        name: "replies",
        named: true,
        value: per(data.completion_tokens),
        kind: "line",
        colour: "var(--series-5)",
        told: rated("tokens"),
        figure: figures.count(d3.sum(data.completion_tokens)),
      },
      ...bound.series,
    ];
    return timeline.chart(seen, {
      key: "tokens",
      title: "Tokens",
      unit: "per second",
      series,
      note: bound.note,
      label: `Tokens per second: ${series[0].figure} of prompts and ${series[1].figure} of replies in all.`,
    });
  }

  function machine(seen) {
    const { data, held, peak } = seen;
    const small = [
      [
        "cpu",
        "CPU",
        "cores of all workers",
        held(data.cpu),
        data.cpu,
        (value) => `${figures.number(Math.round(value * 100) / 100)} cores`,
      ],
      ["memory", "Memory", "MB of all workers", peak(data.rss_mb), data.rss_mb, figures.memory],
      ["lag", "Event loop's lag", "ms, of the latest worker", peak(data.lag_ms), data.lag_ms, figures.milliseconds],
    ];
    return small
      .filter(([, , , , column]) => any(column))
      .map(([key, title, unit, value, column, told]) =>
        timeline.chart(seen, {
          key,
          title,
          unit,
          height: 96,
          kind: "small",
          series: [{ name: title, value, kind: "area", colour: "var(--muted)", told }],
          label: `${title}: at most ${told(d3.max(column))}.`,
        }),
      );
  }

  return { section };
})();
