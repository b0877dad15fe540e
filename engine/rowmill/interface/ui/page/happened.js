// What happened: starts, ends, kills, outages, holds. Marked on all charts alike, and listed.
"use strict";

const happened = (() => {
  const { el, moment, said } = elements;
  const LETTER_PX = 6.6; // of a letter of a chart, about
  const MOST_LANES = 8;
  const MOST_NUMBERED = 40;
  const MOST_OPENED = 12;
  // kind -> its lane, its word, its colour; `band`: opacity of its span across all charts; `line`: drawn across them
  const KINDS = {
    start: { lane: "sessions", word: "start", colour: "var(--muted)" },
    resume: { lane: "sessions", word: "resumed", colour: "var(--accent)", line: true },
    kill: { lane: "sessions", word: "killed", colour: "var(--bad)", line: true },
    stop: { lane: "sessions", word: "stopped", colour: "var(--warn)", line: true },
    cap: { lane: "sessions", word: "cap", colour: "var(--warn)", line: true },
    end: { lane: "sessions", word: "end", colour: "var(--good)" },
    outage: { lane: "outages", word: "outage", colour: "var(--bad)", band: 0.16 },
    hold: { lane: "holds", word: "hold", colour: "var(--warn)", band: 0.09 },
    closed: { lane: "closed", word: "closed", colour: "var(--bad)", line: true },
    note: { lane: "notes", word: "note", colour: "var(--muted)" },
  };
  const ORDER = ["sessions", "outages", "holds", "closed", "notes"];
  const kind = (mark) => KINDS[mark.kind] ?? { ...KINDS.note, word: mark.kind };
  const colour = (mark) => kind(mark).colour;

  /** Give each mark its lane: holds and outages one for each of a few providers, for they overlap. */
  function laned(marks) {
    const own = (mark) => `${kind(mark).lane}\n${kind(mark).band ? (mark.provider ?? "") : ""}`;
    const lanes = new Set(marks.map(own));
    return marks.map((mark) => ({
      ...mark,
      lane: lanes.size <= MOST_LANES ? own(mark) : `${kind(mark).lane}\n`,
    }));
  }

  /** Spans that overlap or touch, as one. */
  function united(spans) {
    const made = [];
    for (const { x1, x2 } of [...spans].sort((a, b) => a.x1 - b.x1)) {
      if (made.length && x1 <= made.at(-1).x2) made.at(-1).x2 = Math.max(made.at(-1).x2, x2);
      else made.push({ x1, x2 });
    }
    return made;
  }

  /** Bands, lines and cut pauses behind every chart. */
  const behind = ({ marks, scale }) => [
    Plot.rect(scale.cuts, { x1: "x1", x2: "x2", fill: "var(--soft)" }),
    Plot.ruleX(
      scale.cuts.flatMap((cut) => [cut.x1, cut.x2]),
      { stroke: "var(--muted)", strokeDasharray: "2 3" },
    ),
    ...Object.entries(KINDS).flatMap(([name, { band, colour: fill }]) =>
      band
        ? Plot.rect(united(marks.filter((mark) => mark.kind === name && mark.until)), {
            x1: "x1",
            x2: "x2",
            fill,
            fillOpacity: band,
          })
        : [],
    ),
    Plot.ruleX(
      marks.filter((mark) => kind(mark).line),
      { x: "x1", stroke: colour, strokeWidth: 1.25, strokeDasharray: "4 2" },
    ),
  ];

  /** The strip above the charts: a lane for each kind of mark. */
  function strip(seen) {
    const rank = (lane) => ORDER.indexOf(lane.split("\n")[0]);
    const lanes = [...new Set(seen.marks.map((mark) => mark.lane))].sort(
      (a, b) => rank(a) - rank(b) || d3.ascending(a, b),
    );
    if (!lanes.length) return null;
    const numbered = seen.marks.length <= MOST_NUMBERED;
    const draw = (width) => {
      const margins = seen.margins(width);
      const px = (width - margins.marginLeft - margins.marginRight) / (seen.scale.all || 1);
      const words = [];
      for (const lane of lanes) {
        const own = seen.marks.filter((mark) => mark.lane === lane).sort((a, b) => a.x1 - b.x1);
        let free = -LETTER_PX;
        own.forEach((mark, place) => {
          const from = mark.x2 * px + 9;
          const what =
            lane.startsWith("sessions") || !mark.provider ? kind(mark).word : elements.pictured(mark.provider);
          const number = numbered ? String(mark.number) : "";
          const until = place + 1 < own.length ? own[place + 1].x1 * px - 6 : seen.scale.all * px + margins.marginRight;
          const whole = `${number} ${what}`.trim();
          const [fits, before] = [
            (text) => from >= free && from + text.length * LETTER_PX <= until,
            (text) => mark.x1 * px - 9 - text.length * LETTER_PX >= free + 6,
          ];
          const word = [
            { text: whole, right: true },
            { text: whole, right: false },
            { text: number, right: true },
            { text: number, right: false },
          ].find(({ text, right }) => text && (right ? fits(text) : before(text)));
          if (word) words.push({ ...word, mark });
          free = Math.max(free, from + (word?.right ? word.text.length * LETTER_PX : 0));
        });
      }
      return charts.plot({
        width,
        height: lanes.length * 20 + 8,
        ...margins,
        marginTop: 4,
        marginBottom: 4,
        x: { domain: [0, seen.scale.all], axis: null },
        y: { domain: lanes, tickFormat: (lane) => lane.split("\n")[0], label: null, tickSize: 0, padding: 0.3 },
        marks: [
          Plot.rect(seen.scale.cuts, { x1: "x1", x2: "x2", fill: "var(--soft)" }),
          Plot.ruleX(
            seen.scale.cuts.flatMap((cut) => [cut.x1, cut.x2]),
            { stroke: "var(--muted)", strokeDasharray: "2 3" },
          ),
          Plot.barX(
            seen.marks.filter((mark) => mark.until && mark.x2 > mark.x1),
            {
              x1: "x1",
              x2: "x2",
              y: "lane",
              fill: colour,
              insetLeft: -1,
              insetRight: -1,
            },
          ),
          Plot.dot(
            seen.marks.filter((mark) => !(mark.until && mark.x2 > mark.x1)),
            { x: "x1", y: "lane", r: 4, fill: colour, stroke: "var(--paper)" },
          ),
          ...[true, false].map((right) =>
            Plot.text(
              words.filter((word) => word.right === right),
              {
                x: (word) => (right ? word.mark.x2 : word.mark.x1),
                y: (word) => word.mark.lane,
                text: "text",
                textAnchor: right ? "start" : "end",
                dx: right ? 9 : -9,
                fill: "currentColor",
              },
            ),
          ),
          charts.tip(
            seen.marks,
            Plot.pointer({
              x: (mark) => (mark.x1 + mark.x2) / 2,
              y: "lane",
              title: (mark) => `${figures.time(mark.at)}\n${elements.pictured(mark.words)}`,
              lineWidth: 30,
            }),
          ),
        ],
      });
    };
    return charts.framed({
      key: "events",
      title: "What happened",
      unit: pauses(seen.scale),
      kind: "strip",
      draw,
      label: `What happened: ${d3
        .rollups(
          seen.marks,
          (some) => some.length,
          (mark) => kind(mark).word,
        )
        .map(([word, count]) => `${word} ${count}`)
        .join(", ")}. The table of events says the same.`,
    });
  }

  function pauses(scale) {
    if (!scale.cuts.length) return "";
    return `over time at work; shaded between dashes: pauses cut out (${scale.cuts
      .slice(0, 4)
      .map((cut) => figures.duration(cut.seconds))
      .join(", ")}${scale.cuts.length > 4 ? ", ..." : ""})`;
  }

  /** The events as a list. */
  function events(seen) {
    if (!seen.marks.length) return null;
    const shown = elements.table(
      "Events",
      [
        { head: "", number: true, cell: (mark) => String(mark.number) },
        {
          head: "what",
          kind: "prose",
          cell: (mark) =>
            el("span", {}, el("span", { class: `mark ${mark.kind}` }, kind(mark).word), " ", said(mark.words)),
        },
        { head: `when (${figures.zone})`, row: true, cell: (mark) => moment(mark.at, figures.when) },
        { head: "at work", number: true, cell: (mark) => figures.duration(seen.scale.workedBefore(mark.at)) },
        { head: "for", number: true, cell: (mark) => (mark.until ? figures.duration(mark.until - mark.at) : "") },
      ],
      seen.marks,
    );
    return elements.more("events", `Events: ${figures.count(seen.marks.length)}`, shown, {
      open: seen.marks.length <= MOST_OPENED,
      kind: "block",
    });
  }

  return { laned, behind, strip, events };
})();
