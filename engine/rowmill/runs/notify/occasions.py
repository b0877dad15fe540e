"""What of a run that goes on is worth telling: a cap nearly reached, a provider that is down. Decisions only."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rowmill.core.reports import Cost, Snapshot

_DOWN_S = 60.0  # a provider that is left alone for less is what retries are for
_DOWN = {"failing": "fails", "holding": "asks to be left alone"}  # state of a provider -> what it does


class Reached(NamedTuple):
    """A cap of the budget of which a part is used up."""

    key: str  # "max_usd"
    cap: float
    why: str


def reached(cost: Cost | None, part: float, told: Mapping[str, float]) -> Iterator[Reached]:
    """Yield the caps of which this part is used up, and that are higher than those that were told of."""
    if cost is None:
        return
    usd = (cost.usd or 0.0) + (cost.lost_usd or 0.0) + cost.reserved_usd
    for key, cap, used, shown in (
        ("max_usd", cost.max_usd, usd, "${:,.2f}"),
        ("max_tokens", cost.max_tokens, float(cost.tokens + cost.lost.tokens), "{:,.0f} tokens"),
        ("max_requests", cost.max_requests, float(cost.requests), "{:,.0f} requests"),
    ):
        if cap is not None and used >= part * cap and cap > told.get(key, 0.0):
            why = f"{used / cap:.0%} of budget.{key} is used up, {shown.format(used)} of {shown.format(cap)}"
            yield Reached(key, cap, why)


class Outages:
    """Which providers are down, and since when; each outage is told once."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}  # provider -> seconds of the session
        self._told: set[str] = set()

    def __repr__(self) -> str:
        return f"<{self._since}, told {sorted(self._told)}>"

    def look(self, snapshot: Snapshot) -> list[str]:
        """Return what is to be told of them now, each as a text."""
        news = []
        for provider in snapshot.providers:
            if provider.state == "open":
                self._since.pop(provider.name, None)
                self._told.discard(provider.name)
                continue
            since = self._since.setdefault(provider.name, snapshot.elapsed_s)
            if provider.name in self._told:
                continue
            if provider.state == "closed":
                news.append(f"provider {provider.name} is closed: nothing more is asked of it")
            elif provider.state in _DOWN and (down := snapshot.elapsed_s - since) >= _DOWN_S:
                news.append(f"provider {provider.name} {_DOWN[provider.state]}, for {down:.0f} s by now")
            else:
                continue
            self._told.add(provider.name)
        return news
