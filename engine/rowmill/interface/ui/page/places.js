// Who did the work, and by what configuration: steps, providers, batches, sessions, nodes.
"use strict";

const places = (() => {
  const { el, said, table, moment, left, bar } = elements;
  const BESIDE = 4; // providers that have room beside each other on paper
  const BATCH_PX = 16;
  const SHORT_S = 1200; // within which minutes do not tell ticks apart
  const NAMED_BATCHES = 40; // beyond it there is no room for a name beside each bar

  /** Providers beside each other: few as columns, many as lines of two tables. */
  function providers(facts) {
    const found = facts.providers;
    if (!found.length) return null;
    const most = d3.max(found, (each) => each.requests);
    const state = (each) => el("span", { class: `provider ${each.state}` }, each.state);
    const took = (each) => (each.mean_reply_s === null ? "–" : figures.milliseconds(each.mean_reply_s * 1000));
    const work = [
      ["State", state],
      ["Requests", (each) => figures.count(each.requests)],
      ["", (each) => bar(each.requests, most)],
      ["Answered", (each) => figures.share(each.answered, each.requests)],
      ["429s", (each) => figures.count(each.limited)],
      ["Failed", (each) => figures.count(each.failed)],
      ["Retries", (each) => figures.count(each.retries)],
      ["Mean reply", took],
      ["In flight, most", (each) => figures.count(each.in_flight_max)],
      ["Held", (each) => (each.held_s ? figures.duration(each.held_s) : "–")],
      ["Breaker opened", (each) => figures.count(each.opened)],
    ];
    const terms = [
      ["Model", (each) => (each.model === null ? "–" : said(each.model))],
      ["Tokens in", (each) => figures.count(each.prompt_tokens)],
      ["Tokens out", (each) => figures.count(each.completion_tokens)],
      ["Cost", (each) => figures.money(each.usd)],
      ["Limit a minute", limits],
      ["Address", (each) => (each.base_url === null ? "–" : said(each.base_url))],
    ];
    const beside = () =>
      table(
        "Providers",
        [
          { head: "", row: true, cell: ([head]) => head || el("span", { class: "unseen" }, "as a bar") },
          ...found.map((each) => ({ head: said(each.name), number: true, cell: ([, cell]) => cell(each) })),
        ],
        [...work, ...terms],
        { kind: "beside" },
      );
    const below = (label, entries) =>
      table(
        label,
        [
          { head: "Provider", row: true, cell: (each) => said(each.name) },
          ...entries.map(([head, cell]) => ({
            head,
            number: !["", "State", "Model", "Address"].includes(head),
            kind: head === "" ? "bars" : head === "Address" ? "address" : null,
            cell,
          })),
        ],
        found,
      );
    return el(
      "div",
      {},
      found.length <= BESIDE
        ? beside()
        : [below("Providers, what they did", work), below("Providers, what they cost", terms)],
      left(facts.more_providers, "providers"),
    );
  }

  function steps(facts) {
    const found = facts.steps;
    if (!found.length) return null;
    const count = (name) => ({ number: true, cell: (each) => figures.count(each[name]) });
    return el(
      "div",
      {},
      table(
        "Steps",
        [
          { head: "Step", row: true, cell: (each) => said(each.name) },
          { head: "Rows", ...count("rows") },
          { head: "Failed", ...count("failed") },
          { head: "Left out", ...count("left_out") },
          { head: "Requests", ...count("requests") },
          { head: "Tokens in", ...count("prompt_tokens") },
          { head: "Tokens out", ...count("completion_tokens") },
          { head: "Cost", number: true, cell: (each) => figures.money(each.usd) },
        ],
        found,
      ),
      left(facts.more_steps, "steps"),
    );
  }

  function limits(each) {
    const parts = [
      each.requests_per_minute === null ? null : `${figures.compact(each.requests_per_minute)} requests`,
      each.tokens_per_minute === null ? null : `${figures.compact(each.tokens_per_minute)} tokens`,
    ];
    return parts.filter(Boolean).join(", ") || "–";
  }

  const named = (batch) => `${batch.part}${batch.number > 1 ? `, try ${batch.number}` : ""}`;
  const went = (batch) =>
    /fail|expire|cancel|refus|gave|given/.test(batch.status)
      ? "var(--bad)"
      : batch.ended === null
        ? "var(--warn)"
        : "var(--accent)";

  function batches(facts) {
    const found = facts.batches;
    if (!found.length) return null;
    const dated = found.filter((batch) => figures.known(batch.created));
    const count = (name) => ({ number: true, cell: (batch) => figures.count(batch[name]) });
    const shown = table(
      "Batches",
      [
        { head: "Part", row: true, cell: named },
        { head: "Status", cell: (batch) => said(batch.status) },
        { head: "Batch", kind: "address", cell: (batch) => (batch.batch === null ? "–" : said(batch.batch)) },
        { head: "Created", cell: (batch) => moment(batch.created, figures.when) },
        { head: "Took", number: true, cell: (batch) => took(batch, facts) },
        { head: "Rows", ...count("rows") },
        { head: "Requests", ...count("requests") },
        { head: "Answered", ...count("answered") },
        { head: "Failed", ...count("failed") },
        { head: "Asked again", ...count("left") },
      ],
      found,
    );
    return el(
      "div",
      {},
      dated.length ? bars(dated, facts) : null,
      elements.more("batches", `All batches: ${figures.count(found.length)}`, shown, {
        open: found.length <= 12,
        kind: "block",
      }),
      left(facts.more_batches, "batches"),
    );
  }

  const took = (batch, facts) =>
    figures.known(batch.created) ? figures.duration((batch.ended ?? facts.made_at) - batch.created) : "–";

  /** A tick as the time, with seconds where all is short; and where it is another day than the one before as its day. */
  const times = (short) => (date, place, ticks) => {
    if (place && d3.timeDay.floor(date) > d3.timeDay.floor(ticks[place - 1])) return figures.day(date);
    return short ? figures.clock(date / 1000) : figures.hour(date);
  };

  function bars(found, facts) {
    const from = d3.min(found, (batch) => batch.created);
    const until = Math.max(
      d3.max(found, (batch) => batch.ended ?? facts.made_at),
      from + 1,
    );
    const [drawn, height] = [
      found.map((batch, place) => ({ ...batch, place })),
      found.length > NAMED_BATCHES ? Math.max(3, 640 / found.length) : BATCH_PX,
    ];
    const draw = (width) =>
      charts.plot({
        width,
        height: found.length * height + 40,
        marginLeft: found.length > NAMED_BATCHES ? 16 : 64,
        marginRight: 30,
        x: {
          type: "time",
          domain: [new Date(from * 1000), new Date(until * 1000)],
          label: null,
          ticks: width < charts.NARROW ? 3 : 7,
          tickFormat: times(until - from < SHORT_S),
          axis: "bottom",
        },
        y: {
          domain: d3.range(found.length),
          axis: found.length > NAMED_BATCHES ? null : "left",
          tickFormat: (place) => named(found[place]),
          tickSize: 0,
          label: null,
          padding: 0.2,
        },
        marks: [
          Plot.barX(drawn, {
            x1: (batch) => new Date(batch.created * 1000),
            x2: (batch) => new Date((batch.ended ?? facts.made_at) * 1000),
            y: "place",
            fill: went,
            insetRight: -1,
          }),
          charts.tip(
            drawn,
            Plot.pointer({
              x: (batch) => new Date(batch.created * 1000),
              y: "place",
              title: (batch) =>
                `part ${named(batch)}: ${elements.pictured(batch.status)}\n${figures.some(batch.rows, "row")}, ${took(batch, facts)}`,
            }),
          ),
        ],
      });
    const open = found.filter((batch) => batch.ended === null).length;
    return charts.framed({
      key: "batches",
      title: "Batches",
      unit: `by part, from creation to end, ${figures.zone}`,
      draw,
      label: `${figures.count(found.length)} batches over ${figures.duration(until - from)}, ${figures.count(open)} of them not ended. The table says the same.`,
      entries: [
        { name: "ended", colour: "var(--accent)" },
        { name: "at work", colour: "var(--warn)" },
        { name: "failed, expired or cancelled", colour: "var(--bad)" },
      ].filter((entry) => drawn.some((batch) => went(batch) === entry.colour)),
    });
  }

  function sessions(facts) {
    const found = facts.sessions;
    if (!found.length) return null;
    const count = (name) => ({ number: true, cell: (each) => figures.count(each[name]) });
    const shown = table(
      "Sessions",
      [
        { head: "", number: true, cell: (_, place) => String(place + 1) },
        { head: "Started", row: true, cell: (each) => moment(each.started, figures.when) },
        {
          head: "How it ended",
          kind: "prose",
          cell: (each) =>
            el(
              "span",
              {},
              el("span", { class: `mark ${each.state}` }, each.state),
              " ",
              said(each.words),
              each.exit_code === null ? "" : ` (exit code ${each.exit_code})`,
            ),
        },
        { head: "At work", number: true, cell: (each) => figures.duration(each.elapsed_s) },
        { head: "Mode", cell: (each) => each.mode },
        { head: "Rows", ...count("rows") },
        { head: "Rows/s", number: true, cell: (each) => figures.number(Math.round(each.rows_per_s * 10) / 10) },
        { head: "Requests", ...count("requests") },
        { head: "Retries", ...count("retries") },
        { head: "Workers", ...count("workers") },
        { head: "Died", ...count("deaths") },
        { head: "CPU", number: true, cell: (each) => figures.duration(each.cpu_s) },
      ],
      found,
    );
    return el("div", {}, shown, left(facts.more_sessions, "sessions"));
  }

  function nodes(facts) {
    const found = facts.nodes;
    if (!found.length) return null;
    const count = (name) => ({ number: true, cell: (each) => figures.count(each[name]) });
    return el(
      "div",
      {},
      table(
        "Nodes of the cluster",
        [
          { head: "Node", row: true, cell: (each) => said(each.node) },
          { head: "Session", number: true, cell: (each) => figures.count(each.session + 1) },
          { head: "Joined after", number: true, cell: (each) => figures.duration(each.joined_s) },
          {
            head: "Left after",
            number: true,
            cell: (each) => (each.left_s === null ? "–" : figures.duration(each.left_s)),
          },
          { head: "Why", kind: "prose", cell: (each) => (each.why === null ? "" : said(each.why)) },
          { head: "Workers", ...count("workers") },
          { head: "Rows", ...count("rows") },
          { head: "CPU of its agent", number: true, cell: (each) => figures.duration(each.cpu_s) },
          { head: "Brought", number: true, cell: (each) => figures.memory(each.carried_mb) },
          { head: "Sent", number: true, cell: (each) => figures.memory(each.sent_mb) },
        ],
        found,
      ),
      left(facts.more_nodes, "nodes"),
    );
  }

  function configuration(facts) {
    if (!facts.configuration.length) return null;
    const list = el(
      "dl",
      { class: "configuration" },
      facts.configuration.map(([key, value]) =>
        el("div", {}, el("dt", {}, el("code", {}, said(key))), el("dd", {}, said(value, "code"))),
      ),
    );
    return el(
      "div",
      {},
      elements.more(
        "configuration",
        `Configuration: ${figures.some(facts.configuration.length, "key")}, without secrets`,
        list,
        { kind: "block" },
      ),
      left(facts.more_configuration, "keys"),
    );
  }

  return { steps, providers, batches, sessions, nodes, configuration };
})();
