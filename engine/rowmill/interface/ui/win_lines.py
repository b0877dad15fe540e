"""Who wins, in lines: the shares of two answers with their bounds, and whether they show anything."""

from rowmill.core.plain_text import one_line
from rowmill.core.win_rates import WinRates, WinShare


def told(rates: WinRates) -> list[str]:
    """Return the lines of two answers that were compared. Bounds hold with 95%."""
    first, second = map(one_line, rates.between)
    lines = []
    if rates.rows:
        shares = zip((first, second, "tie"), (*rates.wins, rates.ties), strict=True)
        lines.append(f"{', '.join(f'{name} {_bounded(each)}' for name, each in shares)} of {_rows(rates.rows)}")
    lines.append(_better(rates, first, second))
    if rates.in_both_orders is not None:
        before, after = rates.in_both_orders
        lines.append(f"what stood first won in both orders in {_rows(before)}, what stood second in {after:,}: ties")
    if rates.unreadable:
        lines.append(f"not counted: {_rows(rates.unreadable)} with a verdict that is not first, second or tie")
    if rates.incomplete:
        lines.append(f"not counted: {_rows(rates.incomplete)} without one of the verdicts")
    return lines


def _better(rates: WinRates, first: str, second: str) -> str:
    decided = rates.wins[0].rows + rates.wins[1].rows
    of = f"of the {_rows(decided)} that {'is' if decided == 1 else 'are'} no tie"
    if not decided:
        return f"neither {first} nor {second} is shown to be better"
    if rates.better == rates.between[1]:
        other = rates.decided
        turned = WinShare(rates.wins[1].rows, 1 - other.share, 1 - other.high, 1 - other.low)
        return f"{second} is better: it has {_bounded(turned)} {of}"
    verdict, who = ("neither is shown to be better", first) if rates.better is None else (f"{first} is better", "it")
    return f"{verdict}: {who} has {_bounded(rates.decided)} {of}"


def _bounded(share: WinShare) -> str:
    return f"{share.share:.1%} ({share.low:.1%} to {share.high:.1%})"


def _rows(count: int) -> str:
    return f"{count:,} {'row' if count == 1 else 'rows'}"
