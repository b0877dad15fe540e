// The page as a whole: its sections, its theme, its printing, and how it follows a run that is at work.
"use strict";

(() => {
  const { el } = elements;
  const EVERY_MS = 1000; // between two looks at a run that is followed,
  const REST = 4; // and at least so many times as long as drawing took
  const STOPPED_MS = 5000; // between two looks at one that was stopped or killed
  const REPORT = [
    ["summary", null, headline.section],
    ["timeline", "Over time", pace.section],
    ["distributions", "Distributions", spread.section],
    ["cost", "Cost", money.section],
    ["steps", "Steps", places.steps],
    ["wins", "Who wins", wins.section],
    ["failures", "Failures", rows.failures],
    ["fields", "What the replies say", rows.fields],
    ["replies", "Replies", replies.section],
    ["providers", "Providers", places.providers],
    ["batches", "Batches", places.batches],
    ["sessions", "Sessions", places.sessions],
    ["nodes", "Nodes", places.nodes],
    ["configuration", "Configuration", places.configuration],
  ];
  const SECTIONS = { report: REPORT, compare: compare.sections };
  const main = document.getElementById("main");
  const live = document.getElementById("live");
  let pointed = null; // where the pointer is, in the window
  let shown = {}; // id of a section -> what it was drawn of

  /** Draw what has changed. What is open, chosen, focused or selected stays so, and what is read stays in its place. */
  function draw(facts) {
    const sections = SECTIONS[facts.kind] ?? REPORT;
    const anchor = [...main.children].find((section) => section.getBoundingClientRect().bottom > 0);
    const before = anchor?.getBoundingClientRect().top;
    for (const [id, title, make] of sections) {
      const old = document.getElementById(id);
      if (old && selected(old)) continue;
      const drawn = JSON.stringify(of(facts, id));
      if (shown[id] === drawn) continue;
      shown[id] = drawn;
      const body = elements.tried(() => make(facts));
      const section =
        body &&
        el(
          "section",
          { id, "aria-labelledby": title ? `${id}-title` : "headline", tabindex: "-1" },
          title ? el("h2", { id: `${id}-title` }, title) : null,
          body,
        );
      keep(old, section, () => place(sections, id, old, section));
    }
    contents(sections);
    charts.fit();
    if (anchor?.isConnected === false) {
      const now = document.getElementById(anchor.id);
      if (now && window.scrollY) window.scrollBy(0, now.getBoundingClientRect().top - before);
    }
    if (pointed) point();
    document.getElementById("kind").textContent = facts.kind;
    document.title = headlineOf(facts);
    foot(facts);
  }

  /** What a section is drawn of: all but the moment at which the document was made, unless something still goes on. */
  const of = (facts, id) => ({ ...facts, made_at: id === "batches" && facts.live ? facts.made_at : 0 });

  const selected = (section) => {
    const selection = document.getSelection();
    return !!selection && !selection.isCollapsed && section.contains(selection.anchorNode);
  };

  function place(sections, id, old, section) {
    if (old && section) old.replaceWith(section);
    else if (old) old.remove();
    else if (section) {
      const order = sections.map(([each]) => each);
      const next = [...main.children].find((each) => order.indexOf(each.id) > order.indexOf(id));
      main.insertBefore(section, next ?? null);
    }
  }

  /** Put a section in another's place with what was open, focused and scrolled in it. */
  function keep(old, section, put) {
    if (!old || !section) {
      put();
      return;
    }
    for (const details of old.querySelectorAll("details[data-key]")) {
      const now = section.querySelector(`details[data-key=${CSS.escape(details.dataset.key)}]`);
      if (now) now.open = details.open;
    }
    const focused = old.contains(document.activeElement) ? path(old, document.activeElement) : null;
    const range = focused && "selectionStart" in document.activeElement ? document.activeElement.selectionStart : null;
    const scrolled = [...old.querySelectorAll("[role=region], [role=listbox]")].map((each) => [
      path(old, each),
      each.scrollLeft,
      each.scrollTop,
    ]);
    put();
    for (const [way, left, top] of scrolled) followed(section, way)?.scrollTo(left, top);
    const again = focused && followed(section, focused);
    again?.focus({ preventScroll: true });
    if (again && range !== null) again.setSelectionRange?.(range, range);
  }

  /** How to find an element again: by its id, or by the nearest key, or by its place among those of its kind. */
  function path(root, element) {
    if (element.id) return `#${CSS.escape(element.id)}`;
    const details = element.tagName === "SUMMARY" && element.parentElement.dataset.key;
    if (details) return `details[data-key=${CSS.escape(details)}] > summary`;
    const kind = element.getAttribute("role") ? `[role=${element.getAttribute("role")}]` : element.tagName;
    return { kind, at: [...root.querySelectorAll(kind)].indexOf(element) };
  }

  const followed = (root, way) =>
    typeof way === "string" ? root.querySelector(way) : root.querySelectorAll(way.kind)[way.at];

  /** Tell a chart that was drawn anew under a resting pointer that it is there. */
  function point() {
    const svg = document.elementFromPoint(pointed.x, pointed.y)?.closest?.(".plot svg");
    svg?.dispatchEvent(
      new PointerEvent("pointermove", { clientX: pointed.x, clientY: pointed.y, pointerType: "mouse", bubbles: true }),
    );
  }

  function contents(sections) {
    const nav = document.getElementById("contents");
    const links = sections.filter(([id, title]) => title && document.getElementById(id));
    const ids = links.map(([id]) => id).join();
    if (nav.dataset.ids === ids) return;
    nav.dataset.ids = ids;
    nav.hidden = links.length < 2;
    nav.replaceChildren(...links.map(([id, title]) => el("a", { href: `#${id}` }, title)));
  }

  function headlineOf(facts) {
    if (facts.kind === "compare") return "Rowmill: two runs compared";
    return `${facts.run.state}: ${figures.count(facts.totals.done)} rows done, ${elements.pictured(facts.run.input)} – Rowmill`;
  }

  function foot(facts) {
    document
      .getElementById("foot")
      .replaceChildren(
        ...[
          facts.made_at ? ["Made ", elements.moment(facts.made_at), ` (${figures.zone}) by `] : ["By "],
          `Rowmill ${facts.rowmill_version ?? ""}. Nothing of this page was fetched from anywhere. Charts by Observable Plot and D3.`,
        ].flat(),
      );
  }

  // The theme: the system's, unless the reader has chosen one; the choice is kept where a browser keeps anything.
  const THEMES = ["auto", "light", "dark"];
  const kept = () => {
    try {
      return localStorage.getItem("rowmill-theme");
    } catch {
      return null;
    }
  };
  function theme(name) {
    const chosen = THEMES.includes(name) ? name : "auto";
    if (chosen === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
    document.getElementById("theme").textContent = `Theme: ${chosen}`;
    try {
      localStorage.setItem("rowmill-theme", chosen);
    } catch {
      /* a browser that keeps nothing */
    }
    return chosen;
  }
  let chosen = theme(kept() ?? "auto");
  document.getElementById("theme").addEventListener("click", () => {
    chosen = theme(THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length]);
  });

  // On paper all is open but the tables of charts, which the charts say.
  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open]):not(.figures)")];
    for (const details of closed) details.open = true;
    document.documentElement.classList.add("paper");
    charts.fit();
  });
  window.addEventListener("afterprint", () => {
    for (const details of closed) details.open = false;
    document.documentElement.classList.remove("paper");
    charts.fit();
  });

  document.addEventListener(
    "pointermove",
    (event) => {
      if (event.isTrusted) pointed = { x: event.clientX, y: event.clientY };
    },
    { passive: true },
  );
  document.addEventListener("toggle", () => charts.fit(), true);
  new ResizeObserver(() => requestAnimationFrame(charts.fit)).observe(main);

  /** Follow the run: what is served is asked for again and again, until it is finished; one that stopped may go on. */
  async function follow() {
    let took = 0;
    let stopped = false;
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, stopped ? STOPPED_MS : Math.max(EVERY_MS, REST * took)));
      if (document.hidden) continue;
      try {
        const reply = await fetch("facts.json", { cache: "no-store" });
        if (!reply.ok) throw new Error(String(reply.status));
        const facts = await reply.json();
        if (stopped && !facts.live && facts.run.state !== "finished") continue;
        tell(facts.live ? "live" : "ended", facts.live ? "Live" : `The run has ended: ${facts.run.state}`);
        const start = performance.now();
        draw(facts);
        took = performance.now() - start;
        stopped = !facts.live;
        if (stopped && facts.run.state === "finished") return;
      } catch {
        stopped = false;
        tell("gone", "Nobody serves this page now: what it shows is of before");
      }
    }
  }

  function tell(state, words) {
    live.hidden = false;
    live.className = `live ${state}`;
    if (live.textContent !== words) live.textContent = words;
  }

  const facts = JSON.parse(document.getElementById("facts").textContent);
  draw(facts);
  if (facts.live) {
    tell("live", "Live");
    follow();
  }
})();
