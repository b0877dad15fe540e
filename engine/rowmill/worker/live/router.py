"""Which provider a row goes to.

Decided by `Router.choose`, at the moment of sending: of those that may send now, the one that has had least by its
weight. So a provider with room is never left idle, and the weights say who goes first.
"""

from collections.abc import Sequence
from math import inf

from rowmill.core.wire import Request
from rowmill.worker.job import Asked
from rowmill.worker.live.provider import Provider


class Router:
    """Chooses where a row goes.

    next_at: after `choose` has found nobody, when somebody may send; inf where only a new lease can tell.
    """

    def __init__(self, providers: Sequence[Provider]) -> None:
        self.providers = providers
        self.next_at = inf
        self._only = providers[0] if len(providers) == 1 else None

    @property
    def allowed(self) -> int:
        """Requests in flight that all of them allow."""
        return sum(provider.allowed for provider in self.providers)

    def sent(self) -> int:
        """Return how many requests all of them have been sent so far."""
        return sum(provider.sent for provider in self.providers)

    def choose(self, request: Request, last: Asked | None, now: float) -> Provider | None:
        """Return who takes this request now; None where nobody may send it. `last` is where it failed before."""
        only = self._only
        if only is not None:
            lease = only.lease
            if not lease.limited and lease.paused_until <= now < lease.expires and lease.allowed:
                return only  # as `_due` would say, without the calls
            due = self._due(only, request, now)
            if due <= now:
                return only
            self.next_at = due
            return None
        return self._choose(request, last, now)

    def _choose(self, request: Request, last: Asked | None, now: float) -> Provider | None:
        soonest = inf
        best: Provider | None = None
        for provider in self._candidates():
            if provider.in_flight >= provider.allowed:
                continue
            due = self._due(provider, request, now)
            if due > now:
                soonest = min(soonest, due)
            elif best is None or (best is last, best.turn) > (provider is last, provider.turn):
                best = provider
        self.next_at = soonest
        if best is not None:
            # One that was idle does not make up for it: its turn comes no earlier than the others' now.
            latest = best.turn
            for provider in self.providers:
                provider.turn = max(provider.turn, latest)
            best.turn = latest + best.stride
        return best

    def _candidates(self) -> list[Provider]:
        """Return whom rows without a history may go to: the first choices, or what stands in for them."""
        chosen = [each for each in self.providers if each.first_choice and not each.closed]
        if any(not each.failing for each in chosen):
            return chosen
        named = {number for each in self.providers if each.first_choice for number in each.fallback}
        return chosen + [each for each in self.providers if each.number in named and each not in chosen]

    @staticmethod
    def _due(provider: Provider, request: Request, now: float) -> float:
        lease = provider.lease
        due = lease.ready_at(provider.debit(request) if lease.limited else 0, now)
        # A lease of no rate at all, out of its turn, is waited for as well; a lease that is over is not.
        if due > now and (due < inf or (lease.limited and now < lease.expires)):
            provider.sums.wants_rate = True
        return due

    def due(self, provider: Provider, request: Request, now: float) -> float:
        """Return when this one provider may send the request."""
        return inf if provider.in_flight >= provider.allowed else self._due(provider, request, now)

    def fits(self, request: Request) -> bool:
        """Tell whether any provider can take a request of this size at all."""
        # By the characters, not by what was learned: a row is not to fail for what other rows were like.
        return any(each.lease.fits(request.tokens + each.most_output) for each in self.providers if not each.closed)

    def ended(self, row: int, *, answered: bool) -> None:
        """Tell all that a row has come to its end which was sent more than once: each may have it on its books."""
        for provider in self.providers:
            provider.standing.ended(row, answered=answered)

    def has_other(self, provider: Provider) -> bool:
        """Whether a row that failed on this provider may go to another one."""
        return self._only is None and any(each is not provider and each.allowed for each in self._candidates())
