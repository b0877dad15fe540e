// What happened when: one axis of time at work, with what is marked on it on all charts alike.
"use strict";

const timeline = (() => {
  const { moment } = elements;
  const STEP_PX = 3; // a finer step cannot be seen
  const TABLE_ROWS = 60;
  const sum = (column, places) => d3.sum(places, (place) => column[place]);
  const mean = (column, places, seconds) =>
    places.length === 1
      ? column[places[0]]
      : d3.sum(places, (place) => column[place] * seconds[place]) / d3.sum(places, (place) => seconds[place]);
  const most = (column, places) => d3.max(places, (place) => column[place]);

  /** A view of the timeline: its axis, its steps at a width, its marks. */
  function view(facts) {
    const data = facts.timeline;
    const scale = worktime.of(data);
    const marks = happened.laned(
      facts.marks.map((mark, place) => ({
        ...mark,
        number: place + 1,
        x1: scale.placed(mark.at),
        x2: scale.placed(mark.until ?? mark.at),
      })),
    );
    // The longest figures beside a chart are the dollars of a run that has cost next to nothing.
    const figure = 12 + 6.6 * figures.money((facts.cost?.usd ?? 0) / 4).length;
    const margins = (width) => ({
      marginLeft: Math.max(width < charts.NARROW ? 52 : 58, figure),
      marginRight: width < charts.NARROW ? 20 : 84,
    });
    const stepped = (width) => worktime.steps(scale, data, scale.all / (width / STEP_PX));
    const per = (column) => (step) => sum(column, step.places) / Math.max(step.seconds, 0.001);
    const held = (column) => (step) => mean(column, step.places, data.seconds);
    const peak = (column) => (step) => most(column, step.places);
    return { facts, data, scale, marks, margins, stepped, per, held, peak };
  }

  const axis = ({ scale }, width) => {
    const ticks = scale.ticks(width < charts.NARROW ? 3 : 8);
    return Plot.axisX(
      ticks.map((tick) => tick.x),
      { tickSize: 4, tickFormat: (x, place) => figures.tick(ticks[place].at), label: null },
    );
  };

  /** Each step twice, at its start and its end; a hole between stretches of work. */
  function corners(steps, value) {
    const points = [];
    steps.forEach((step, place) => {
      if (place && steps[place - 1].part !== step.part) points.push({ x: step.x1, y: NaN });
      const y = value(step);
      points.push({ x: step.x1, y }, { x: step.x2, y });
    });
    return points;
  }

  /** What is told of a step that is pointed at. */
  const told = (step, series) =>
    [
      `${figures.clock(step.from)}, for ${figures.tick(Math.max(1, step.to - step.from))}`,
      ...series.map((each) => `${each.name}: ${each.told(each.value(step))}`),
    ].join("\n");

  /**
   * A chart over the time at work.
   * series: [{name, value: step -> number, kind: "area" | "line" | "step" | "stack", colour, told: value -> text}].
   * lines: rules across, [{y, name, colour}].
   */
  function chart(
    seen,
    { key, title, unit, series, height = 150, label, format = figures.compact, entries, note, lines = [], kind = "" },
  ) {
    const draw = (width) => {
      const steps = seen.stepped(width);
      const stacks = series.filter((each) => each.kind === "stack");
      const plain = series.filter((each) => each.kind !== "stack");
      const stacked = (step) => d3.sum(stacks, (each) => each.value(step));
      const highest =
        Math.max(
          d3.max(steps, (step) => d3.max([...plain.map((each) => each.value(step)), stacked(step)])) || 0,
          d3.max(lines, (line) => line.y) || 0,
        ) || 1;
      const domain = highest * 1.06;
      const bands = stacks.length
        ? steps.flatMap((step) => {
            let base = 0;
            return stacks
              .map((each) => ({ step, colour: each.colour, y1: base, y2: (base += each.value(step) || 0) }))
              .filter((band) => band.y2 > band.y1);
          })
        : [];
      const named = width >= charts.NARROW ? plain.filter((each) => each.named) : [];
      return charts.plot({
        width,
        height,
        ...seen.margins(width),
        x: { domain: [0, seen.scale.all], axis: null },
        y: {
          domain: [0, domain],
          ticks: height < 110 ? 2 : 4,
          tickFormat: format,
          label: null,
          grid: true,
          nice: false,
        },
        marks: [
          ...happened.behind(seen),
          axis(seen, width),
          Plot.rect(bands, {
            x1: (band) => band.step.x1,
            x2: (band) => band.step.x2,
            y1: "y1",
            y2: "y2",
            fill: "colour",
            shapeRendering: "crispEdges",
          }),
          ...plain.flatMap((each) => {
            const points = corners(steps, each.value);
            return [
              each.kind === "area" &&
                Plot.areaY(points, { x: "x", y1: 0, y2: "y", fill: each.colour, fillOpacity: 0.22 }),
              Plot.lineY(points, {
                x: "x",
                y: "y",
                stroke: each.colour,
                strokeWidth: each.kind === "step" ? 1.5 : 1.4,
                strokeDasharray: each.kind === "step" ? "5 3" : null,
              }),
            ].filter(Boolean);
          }),
          ...lines.map((line) =>
            Plot.ruleY([line.y], { stroke: line.colour, strokeDasharray: "6 3", strokeWidth: 1.5 }),
          ),
          ...lines.map((line) =>
            Plot.text([line], {
              x: 0,
              y: "y",
              text: "name",
              textAnchor: "start",
              dx: 4,
              dy: -7,
              fill: line.colour,
              stroke: "var(--paper)",
              strokeWidth: 3,
            }),
          ),
          ...charts.ends(
            named.map((each) => ({ name: each.short ?? each.name, colour: each.colour, y: lastOf(steps, each.value) })),
            { height, domain, x: seen.scale.all },
          ),
          Plot.ruleY([0], { stroke: "currentColor", strokeOpacity: 0.4 }),
          Plot.ruleX(steps, Plot.pointerX({ x: "x", stroke: "currentColor", strokeOpacity: 0.5 })),
          charts.tip(
            steps,
            Plot.pointerX({
              x: "x",
              y: () => domain * 0.9,
              title: (step) => told(step, series),
              anchor: null,
              maxRadius: Infinity,
            }),
          ),
        ],
      });
    };
    const table = () => {
      const steps = worktime.steps(seen.scale, seen.data, seen.scale.all / TABLE_ROWS);
      return elements.table(
        title,
        [
          { head: "at", row: true, cell: (step) => moment(step.from, figures.when) },
          { head: "length", number: true, cell: (step) => figures.tick(Math.max(1, step.to - step.from)) },
          ...series.map((each) => ({ head: each.name, number: true, cell: (step) => each.told(each.value(step)) })),
        ],
        steps,
      );
    };
    return charts.framed({
      key,
      title,
      unit,
      label,
      draw,
      table,
      note,
      kind,
      entries:
        entries ??
        series
          .filter((each) => series.length > 1 || each.kind === "stack")
          .map((each) => ({
            name: each.name,
            colour: each.colour,
            kind: each.kind === "step" ? "dash" : each.kind === "line" ? "line" : "area",
            figure: each.figure,
          })),
    });
  }

  function lastOf(steps, value) {
    const last = steps.length ? value(steps.at(-1)) : 0;
    return Number.isFinite(last) ? last : 0;
  }

  return { view, chart };
})();
