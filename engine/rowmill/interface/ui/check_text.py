"""What a check has found, for a person."""

from rowmill.core.checked import Checked, ProviderCheck
from rowmill.core.plain_text import one_line
from rowmill.interface.ui import arranged, figures

_COLUMNS = 12  # that are shown


def text(checked: Checked) -> str:
    """Return it in several short lines, without a final line break."""
    more = len(checked.columns) - _COLUMNS
    columns = ", ".join(checked.columns[:_COLUMNS]) + (f" and {more} more" if more > 0 else "")
    lines = [_line("input", f"{checked.input}: {checked.format}" + (f"; columns {columns}" if columns else ""))]
    lines += [_line("notice", notice) for notice in checked.notices]
    lines.append(_line("output", checked.output))
    if checked.run:
        lines.append(_line("run", checked.run))
    if checked.row is None:
        lines.append(_line("request", "none of the first rows can become a request"))
    else:
        lines.append(_line("request", f"of row {checked.row}:"))
        lines += [_line("", each) for each in checked.request.split("\n")]
    for each in checked.providers:
        lines += _provider(each)
    return "\n".join(lines)


def _provider(each: ProviderCheck) -> list[str]:
    model = "the row's own model" if each.model is None else f"model {each.model}"
    lines = [
        _line("provider", f"{each.name}: {each.url}, {model}"),
        *([_line("preset", each.preset)] if each.preset else []),
        _line("key", each.key),
        _line("price", _price(each)),
    ]
    if each.ok is None:
        return lines
    took = "" if each.seconds is None else f" after {figures.duration(each.seconds)}"
    if not each.ok:
        status = "" if each.status is None else f"HTTP {each.status}{took}: "
        lines.append(_line("FAILED", f"{status}{each.problem}"))
        return [*lines, _line("reply", each.body)] if each.body else lines
    named = f", as {each.answered_as}" if each.answered_as not in ("", each.model) else ""
    tokens = "" if each.tokens is None else f", {each.tokens[0]:,} tokens in, {each.tokens[1]:,} out"
    lines += [_line("ok", f"HTTP {each.status}{took}{named}{tokens}"), _line("answer", each.answer)]
    lines += [_line("asked", each.form)] if each.form else []
    limits = [
        f"{figures.number(limit[0])} {what} (all back within {figures.duration(limit[1])})"
        for limit, what in ((each.requests_limit, "requests"), (each.tokens_limit, "tokens"))
        if limit is not None
    ]
    return [*lines, _line("limits", ", ".join(limits) or "its headers tell none")]


def _price(each: ProviderCheck) -> str:
    if each.price is None:
        return "not known: [prices] may say it; budget.max_usd needs it"
    return f"${each.price[0]:g} in, ${each.price[1]:g} out a million tokens"


def _line(label: str, text: str) -> str:
    return one_line(arranged.line(label, text))
