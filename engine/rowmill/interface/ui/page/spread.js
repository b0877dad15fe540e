// How long requests took, how long rows waited, how long texts were: histograms over a logarithmic axis.
"use strict";

const spread = (() => {
  const { el, pairs } = elements;
  const BARS = 44;
  const MARKS = [
    ["p50", "half"],
    ["p90", "nine in ten"],
    ["p99", "99 in 100"],
  ];
  const LETTER_PX = 6.6; // of a letter of a chart, about
  const NOTHING = 0.5; // where 0 stands on the axis

  const section = (facts) =>
    facts.distributions.length ? el("div", { class: "distributions" }, facts.distributions.map(distribution)) : null;

  function distribution(facts) {
    const { name, title, unit } = facts;
    const told = (value) => figures.measured(value, unit);
    const marks = MARKS.filter(([key]) => figures.known(facts[key]));
    const counted = `${unit}, of ${figures.count(facts.count)}`;
    const chart = () =>
      charts.framed({
        key: `spread-${name}`,
        title,
        unit: counted,
        draw: (width) => histogram(facts, marks, told, width),
        label: `${title}, ${figures.count(facts.count)} values: ${marks.map(([key, words]) => `${words} at most ${told(facts[key])}`).join(", ")}, the largest ${told(facts.max)}.`,
        table: () =>
          elements.table(
            title,
            [
              { head: "from", row: true, cell: (bar) => told(bar[0]) },
              { head: "below", number: true, cell: (bar) => told(bar[1]) },
              { head: "values", number: true, cell: (bar) => figures.count(bar[2]) },
              { head: "share", number: true, cell: (bar) => figures.share(bar[2], facts.count) },
            ],
            bars(facts.buckets),
          ),
      });
    return el(
      "div",
      { class: "distribution" },
      facts.buckets.length > 1 ? chart() : el("h3", {}, title, el("span", { class: "unit" }, ` ${counted}`)),
      pairs([...marks.map(([key]) => [key, told(facts[key])]), ["max", told(facts.max)]], "quantiles"),
    );
  }

  /** Buckets put together until each bar is about as wide as any other on the axis. */
  function bars(buckets) {
    if (!buckets.length) return [];
    const [low, high] = [Math.max(buckets[0][0], NOTHING), Math.max(buckets.at(-1)[1], 1)];
    const ratio = Math.max((high / low) ** (1 / BARS), 1.04);
    const made = [];
    for (const [from, to, count] of buckets) {
      const last = made.at(-1);
      if (last && last[0] > 0 && to / last[0] <= ratio * 1.001) [last[1], last[2]] = [to, last[2] + count];
      else made.push([from, to, count]);
    }
    return made;
  }

  function histogram(facts, marks, told, width) {
    const edge = (value) => Math.max(value, NOTHING);
    const found = bars(facts.buckets).map(([from, to, count]) => ({
      from,
      to,
      count,
      x1: edge(from),
      x2: Math.max(to, edge(from) * 1.02),
      height: count / Math.log(Math.max(to, edge(from) * 1.02) / edge(from)),
    }));
    if (!found.length) return charts.plot({ width, height: 60, marks: [] });
    const [low, high] = [found[0].x1, d3.max(found, (bar) => bar.x2)];
    const pad = Math.max((high / low) ** 0.04, 1.05);
    const top = d3.max(found, (bar) => bar.height);
    const height = 170;
    const domain = [low / pad, Math.max(high, facts.max ?? high) * pad];
    const [left, right] = [16, 24];
    const lines = marks.map(([key], place) => {
      const [x, text] = [
        edge(facts[key]),
        `${key} ${facts.unit === "ms" ? told(facts[key]) : figures.number(facts[key])}`,
      ];
      const px = left + ((width - left - right) * Math.log(x / domain[0])) / Math.log(domain[1] / domain[0]);
      return { x, text, up: -(38 - place * 15), fits: px + 8 + text.length * LETTER_PX < width };
    });
    return charts.plot({
      width,
      height,
      marginLeft: left,
      marginRight: right,
      marginTop: 52,
      x: {
        type: "log",
        domain,
        label: null,
        ticks: round(domain, width < charts.NARROW ? 4 : 7),
        tickFormat: (value) => axis(value, facts.unit),
      },
      y: { axis: null, domain: [0, top] },
      marks: [
        Plot.rect(found, {
          x1: "x1",
          x2: "x2",
          y1: 0,
          y2: "height",
          fill: "var(--accent)",
          fillOpacity: 0.75,
          insetRight: 0.5,
        }),
        Plot.ruleY([0], { stroke: "currentColor", strokeOpacity: 0.4 }),
        ...lines.map((line) =>
          Plot.ruleX([line.x], {
            stroke: "var(--ink)",
            strokeWidth: 1.25,
            strokeDasharray: "3 2",
            insetTop: line.up - 6,
          }),
        ),
        ...lines.map((line) =>
          Plot.text([line], {
            x: "x",
            y: () => top,
            text: "text",
            dy: line.up,
            dx: line.fits ? 4 : -4,
            textAnchor: line.fits ? "start" : "end",
            fill: "currentColor",
            stroke: "var(--paper)",
            strokeWidth: 4,
          }),
        ),
        charts.tip(
          found,
          Plot.pointerX({
            x: (bar) => Math.sqrt(bar.x1 * bar.x2),
            y: "height",
            maxRadius: Infinity,
            title: (bar) =>
              `${told(bar.from)} to ${told(bar.to)}\n${figures.count(bar.count)} values, ${figures.share(bar.count, facts.count)}`,
          }),
        ),
      ],
    });
  }

  /** Round values within a domain: of 1, 2 and 5 as many as there is room for. */
  function round([low, high], most) {
    for (const steps of [[1, 2, 5], [1, 3], [1]]) {
      const values = d3
        .range(-2, 13)
        .flatMap((power) => steps.map((step) => step * 10 ** power))
        .filter((value) => value >= low && value <= high);
      if (values.length <= most + 1) return values.length > 2 ? values : d3.ticks(low, high, most);
    }
    return d3
      .range(0, 13, 2)
      .map((power) => 10 ** power)
      .filter((value) => value >= low && value <= high);
  }

  const axis = (value, unit) =>
    value <= NOTHING ? "0" : unit === "ms" ? figures.milliseconds(value) : figures.compact(value);

  return { section };
})();
