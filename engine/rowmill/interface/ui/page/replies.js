// A viewer of replies: a list to choose from, and what was asked beside what came back.
"use strict";

const replies = (() => {
  const { el, said, pictured } = elements;
  const wish = { filter: "", failed: false, chosen: 0 }; // stays when the page is drawn anew

  function section(facts) {
    const all = facts.replies;
    if (!all.length) return null;
    const list = el("ul", {
      class: "choices",
      role: "listbox",
      id: "choices",
      tabindex: "0",
      "aria-label": "Rows; arrow keys choose one",
    });
    const cards = el("div", { class: "cards" });
    const { bar, found } = elements.filters(
      wish,
      "text of input or reply",
      all.some((reply) => reply.failed),
      show,
    );
    let seen = [];

    function show() {
      seen = all.filter((reply) =>
        elements.wished(wish, reply.failed, [reply.input, reply.prompt, reply.output, reply.id]),
      );
      found.textContent =
        seen.length === all.length
          ? `${figures.some(all.length, "row")}, from all over the run`
          : `${figures.count(seen.length)} of these ${figures.count(all.length)} rows`;
      list.replaceChildren(
        ...seen.map((reply) =>
          el(
            "li",
            { role: "option", id: `choice-${reply.index}`, on: { click: () => choose(reply.index) } },
            el("span", { class: "number" }, figures.count(reply.index)),
            said(excerpt(reply.input ?? reply.prompt ?? reply.output), "span", { class: "excerpt" }),
            reply.failed ? el("span", { class: "failed" }, "failed") : null,
          ),
        ),
      );
      cards.replaceChildren(...seen.map(card));
      choose(seen.some((reply) => reply.index === wish.chosen) ? wish.chosen : seen[0]?.index);
    }

    function choose(index) {
      if (index === undefined) {
        list.removeAttribute("aria-activedescendant");
        return;
      }
      wish.chosen = index;
      for (const option of list.children) option.setAttribute("aria-selected", String(option.id === `choice-${index}`));
      for (const each of cards.children) each.classList.toggle("chosen", each.id === `reply-${index}`);
      list.setAttribute("aria-activedescendant", `choice-${index}`);
      const option = document.getElementById(`choice-${index}`);
      if (option && list.scrollHeight > list.clientHeight) list.scrollTop = option.offsetTop - list.clientHeight / 2;
    }

    list.addEventListener("keydown", (event) => {
      const at = seen.findIndex((reply) => reply.index === wish.chosen);
      const to = {
        ArrowDown: at + 1,
        ArrowUp: at - 1,
        j: at + 1,
        k: at - 1,
        Home: 0,
        End: seen.length - 1,
        PageDown: at + 5,
        PageUp: at - 5,
      }[event.key];
      if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      choose(seen[Math.max(0, Math.min(seen.length - 1, to))]?.index);
    });
    show();
    return el("div", {}, bar, el("div", { class: "viewer" }, list, cards));
  }

  /** The beginning of a row: of an object its values, for their names are those of every row. */
  function excerpt(text) {
    let values = text;
    try {
      const row = JSON.parse(text);
      if (row && typeof row === "object")
        values = Object.values(row)
          .map((value) => (typeof value === "object" ? JSON.stringify(value) : value))
          .join(" · ");
    } catch {
      /* one that was cut, or is a text */
    }
    return values.replace(/\s+/g, " ").slice(0, 120);
  }

  function card(reply) {
    const about = [
      reply.model && pictured(reply.model),
      reply.finish_reason && `finish reason ${pictured(reply.finish_reason)}`,
      reply.tokens && `${figures.count(reply.tokens[0])} tokens in, ${figures.count(reply.tokens[1])} out`,
    ]
      .filter(Boolean)
      .join(", ");
    return el(
      "article",
      { class: "card", id: `reply-${reply.index}`, "aria-label": `Row ${reply.index}` },
      el(
        "p",
        { class: "about" },
        el("strong", {}, `Row ${figures.count(reply.index)}`),
        reply.id === null ? null : [" ", said(reply.id)],
        about ? ` ${about}` : "",
      ),
      el(
        "div",
        { class: "sides" },
        el(
          "div",
          {},
          reply.input !== null ? rows.text("Input", reply.input) : null,
          reply.prompt !== null ? rows.text("Prompt as sent", reply.prompt) : null,
          reply.input === null && reply.prompt === null
            ? el("p", { class: "note" }, "The input is not at hand.")
            : null,
        ),
        rows.text(reply.failed ? "Failed" : "Reply", reply.output),
      ),
    );
  }

  return { section };
})();
