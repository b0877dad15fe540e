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

    def __init__(self, upstreams: Sequence[Provider]) -> None:
        self.upstreams = upstreams
        self.next_at = inf
        self._only = upstreams[0] if len(upstreams) == 1 else None

    @property
    def allowed(self) -> int:
        """Requests in flight that all of them allow."""
        return sum(upstream.allowed for upstream in self.upstreams)

    def sent(self) -> int:
        """Return how many requests all of them have been sent so far."""
        return sum(upstream.report.requests for upstream in self.upstreams)

    def choose(self, request: Request, last: Asked | None, now: float) -> Provider | None:
        """Return who takes this request now; None where nobody may send it. `last` is where it failed before."""
        only = self._only
        if only is not None:
            slice_ = only.slice
            if not slice_.limited and slice_.hold_until <= now < slice_.expires and slice_.allowed:
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
        for upstream in self._candidates():
            if upstream.in_flight >= upstream.allowed:
                continue
            due = self._due(upstream, request, now)
            if due > now:
                soonest = min(soonest, due)
            elif best is None or (best is last, best.turn) > (upstream is last, upstream.turn):
                best = upstream
        self.next_at = soonest
        if best is not None:
            # One that was idle does not make up for it: its turn comes no earlier than the others' now.
            latest = best.turn
            for upstream in self.upstreams:
                upstream.turn = max(upstream.turn, latest)
            best.turn = latest + best.stride
        return best

    def _candidates(self) -> list[Provider]:
        """Return whom rows without a history may go to: the first choices, or what stands in for them."""
        chosen = [each for each in self.upstreams if each.first_choice and not each.closed]
        if any(not each.failing for each in chosen):
            return chosen
        named = {number for each in self.upstreams if each.first_choice for number in each.fallback}
        return chosen + [each for each in self.upstreams if each.number in named and each not in chosen]

    @staticmethod
    def _due(upstream: Provider, request: Request, now: float) -> float:
        slice_ = upstream.slice
        due = slice_.ready_at(upstream.debit(request) if slice_.limited else 0, now)
        # A slice of no rate at all, out of its turn, is waited for as well; a lease that is over is not.
        if due > now and (due < inf or (slice_.limited and now < slice_.expires)):
            upstream.report.wants_rate = True
        return due

    def due(self, upstream: Provider, request: Request, now: float) -> float:
        """Return when this one upstream may send the request."""
        return inf if upstream.in_flight >= upstream.allowed else self._due(upstream, request, now)

    def fits(self, request: Request) -> bool:
        """Tell whether any upstream can take a request of this size at all."""
        # By the characters, not by what was learned: a row is not to fail for what other rows were like.
        return any(each.slice.fits(request.tokens + each.most_output) for each in self.upstreams if not each.closed)

    def has_other(self, upstream: Provider) -> bool:
        """Whether a row that failed on this upstream may go to another one."""
        return self._only is None and any(each is not upstream and each.allowed for each in self._candidates())
