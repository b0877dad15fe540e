"""What a run costs, in the pieces that the live display, the plain lines and the summary show.

Dollars are shown only where the price of everything is known: a sum of a part would read as the whole.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby

from rowmill.core.amounts import Spent
from rowmill.core.reports import Cost, CostLine
from rowmill.interface.ui import arranged, figures

_MODELS = 6  # lines of the table; the rest is summed
_NAMES = 3  # models without a price that are named
_LONGEST_PROVIDER = 16  # characters
_LONGEST_MODEL = 32
_TITLES = ("step", "provider", "model", "mode", "requests", "tokens in (cached)", "out", "cost")
_NAMED = _TITLES[:4]  # columns of words; the others are figures
_KEYS = ("max_usd", "max_tokens", "max_requests")


def so_far(cost: Cost | None, *, batch: bool = False) -> list[list[str]]:
    """Return groups of figures: ["cost $1.23 of $5.00", "about $3.10 in all"], ["budget 1.2M of 3.0M tokens"].

    batch: what is under way is told too; it is most of a run by batches, and next to nothing of any other.
    """
    if cost is None:
        return []
    dollars, others = [], []
    # Before the first request nobody knows of what a price will be missing.
    if cost.usd is not None and (cost.usd or cost.reserved_usd or cost.max_usd is not None):
        spent = figures.money(cost.usd)
        dollars.append(f"cost {spent}" + ("" if cost.max_usd is None else f" of {figures.money(cost.max_usd)}"))
        if batch and cost.reserved_usd > 0:
            dollars.append(f"{figures.money(cost.reserved_usd)} under way")
        if cost.projected_usd is not None and (whole := figures.money(cost.projected_usd)) != spent:
            dollars.append(f"about {whole} in all")
    if cost.max_tokens is not None:
        others.append(f"{figures.compact(cost.tokens)} of {figures.compact(cost.max_tokens)} tokens")
    if cost.max_requests is not None:
        others.append(f"{cost.requests:,} of {figures.number(cost.max_requests)} requests")
    if others:
        others[0] = f"budget {others[0]}"
    return [group for group in (dollars, others) if group]


def summed_up(cost: Cost | None) -> list[str]:
    """Return the cost of the whole run in lines for the summary: the sum, then what is worth telling of it."""
    if cost is None:
        return []
    return [*_sum(cost), *_of_it(cost), *_lost(cost), *_unpriced(cost)]


def budget(cost: Cost | None) -> str:
    """Return "$5.00: 99.7% used; 3.0M tokens: 20.1% used"; "" where there is no cap. What may be billed is used."""
    if cost is None:
        return ""
    parts = []
    if cost.max_usd is not None:
        usd = None if cost.usd is None else cost.usd + (cost.lost_usd or 0.0)
        used = "how much is used is unknown" if usd is None else f"{figures.used(usd, cost.max_usd)} used"
        parts.append(f"{figures.money(cost.max_usd)}: {used}")
    if cost.max_tokens is not None:
        tokens = cost.tokens + cost.lost.tokens
        parts.append(f"{figures.compact(cost.max_tokens)} tokens: {figures.used(tokens, cost.max_tokens)} used")
    if cost.max_requests is not None:
        requests = figures.number(cost.max_requests)
        parts.append(f"{requests} requests: {figures.used(cost.requests, cost.max_requests)} used")
    return "; ".join(parts)


def cap(stopped_by: str | None) -> str:
    """Return the key of the configuration that is to be raised, as the reason of the stop names it."""
    named = [f"budget.{key}" for key in _KEYS if key in (stopped_by or "")]
    return " or ".join(named) or "the budget"


def table(cost: Cost | None) -> list[str]:
    """Return a line for each model of each provider under a line of titles; nothing where there is only one.

    Where all have the same step, provider or mode, there is no column for it.
    """
    if cost is None or len(cost.lines) < 2:  # noqa: PLR2004 - one line's figures are those of the run
        return []
    ranked = sorted(cost.lines, key=lambda line: (-(line.usd or 0.0), -line.spent.tokens, line.provider, line.model))
    kept = ranked if len(ranked) <= _MODELS else ranked[: _MODELS - 1]
    rows: list[tuple[str, ...]] = [_TITLES, *map(_cells, kept)]
    if rest := ranked[len(kept) :]:
        rows.append(("", "", f"{len(rest):,} more", "", *_figures(_together(rest), _dollars(rest))))
    alike = {
        "step": len({line.step for line in ranked}) == 1,
        "provider": len({line.provider for line in ranked}) == 1,
        "mode": len({line.mode for line in ranked}) == 1,
    }
    shown = [column for column in zip(*rows, strict=True) if not alike.get(column[0], False)]
    figures_at = [place for place, column in enumerate(shown) if column[0] not in _NAMED]
    return ["  ".join(cells).rstrip() for cells in arranged.columns([*zip(*shown, strict=True)], right=figures_at)]


def _sum(cost: Cost) -> list[str]:
    """Return ["$1.63: $1.23 live, $0.40 batch"]. Of models without a price the others' sum is told, and that it is."""
    priced = [line for line in cost.lines if line.usd is not None]
    if cost.usd is None and not priced:
        return []
    usd = _dollars(priced) if cost.usd is None else cost.usd
    text = figures.money(usd or 0.0) + (" for the models with a known price" if cost.usd is None else "")
    ordered = sorted(priced, key=lambda line: (line.mode != "live", line.mode))
    modes = [(mode, _dollars(list(lines))) for mode, lines in groupby(ordered, key=lambda line: line.mode)]
    if len(modes) > 1:
        text += ": " + ", ".join(f"{figures.money(part or 0.0)} {mode}" for mode, part in modes)
    elif modes and modes[0][0] != "live":
        text += f" by {modes[0][0]}"
    if len(cost.lines) == 1 and (cached := cost.lines[0].spent.cached_tokens):  # of several the table tells it
        text += f"; {figures.compact(cached)} of the tokens in were cached by the provider"
    return [text]


def _of_it(cost: Cost) -> list[str]:
    """Return ["retries $0.02; saved: cache $0.50, packing $0.10, batch $0.40"] without what is nothing."""
    parts = [f"{figures.money(cost.reserved_usd)} under way"] if cost.reserved_usd else []
    if cost.retries_usd:
        parts.append(f"retries {figures.money(cost.retries_usd)}")
    kinds = (("cache", cost.spared_usd), ("packing", cost.packed_usd), ("batch", cost.batch_usd))
    if saved := [f"{name} {figures.money(usd)}" for name, usd in kinds if usd]:
        parts.append(f"saved: {', '.join(saved)}")
    return ["; ".join(parts)] if parts else []


def _lost(cost: Cost) -> list[str]:
    if not cost.lost.requests and not cost.lost_usd:
        return []
    requests = cost.lost.requests
    why = f" ({requests:,} request{'' if requests == 1 else 's'} without a reply)" if requests else ""
    most = f"{figures.compact(cost.lost.tokens)} tokens" if cost.lost_usd is None else figures.money(cost.lost_usd)
    return [f"at most {most} more may have been billed{why}"]


def _unpriced(cost: Cost) -> list[str]:
    if not cost.unpriced:
        return []
    named = ", ".join(f'"{figures.clipped(model, _LONGEST_MODEL)}"' for model in cost.unpriced[:_NAMES])
    if rest := len(cost.unpriced) - _NAMES:
        named += f" and {rest:,} more" if rest > 0 else ""
    one = len(cost.unpriced) == 1
    return [f"unknown for model{'' if one else 's'} {named} (add {'it' if one else 'them'} to [prices])"]


def _cells(line: CostLine) -> tuple[str, ...]:
    provider, model = figures.clipped(line.provider, _LONGEST_PROVIDER), figures.clipped(line.model, _LONGEST_MODEL)
    step, mode = figures.clipped(line.step or "", _LONGEST_PROVIDER), figures.clipped(line.mode, _LONGEST_PROVIDER)
    return step, provider, model, mode, *_figures(line.spent, line.usd)


def _figures(spent: Spent, usd: float | None) -> tuple[str, str, str, str]:
    cached = f" ({figures.compact(spent.cached_tokens)})" if spent.cached_tokens else ""
    return (
        f"{spent.requests:,}",
        f"{figures.compact(spent.prompt_tokens)}{cached}",
        figures.compact(spent.completion_tokens),
        "unknown" if usd is None else figures.money(usd),
    )


def _together(lines: Iterable[CostLine]) -> Spent:
    return Spent.total(line.spent for line in lines)


def _dollars(lines: Sequence[CostLine]) -> float | None:
    """Return the sum; None where the price of any is unknown."""
    return None if any(line.usd is None for line in lines) else sum(line.usd or 0.0 for line in lines)
