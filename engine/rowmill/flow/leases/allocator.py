"""The supervisor's end of one provider's leases: who holds how much of its requests, tokens and slots.

The promise: at every instant the rates, the bursts and the slots of all outstanding leases sum to the capacity at most,
and nearly all of it is outstanding while anyone is hungry.

What is outstanding. A lease is a message: between its sending and its acknowledgement nobody knows whether the worker
goes by it or by the one before. So each holder counts with the largest of all leases that it may be going by: those not
expired and not older than the newest it acknowledged. From that follows the way of every change: the shrinking leases
go out first, the growing ones when the shrinking holders have acknowledged. Only when the capacity itself shrinks are
the sums above it, until the acknowledgements are in.

What ends a lease. Its holder acknowledges a newer one, or is dead (`leave`: at once), or it expires: a holder that has
not been heard of for a second is silent, gets no more leases, and when its last one has run out others get its part.
A stopped process that goes on later finds its lease expired; the clock is the same in all processes.

Who gets what is max-min fair (`max_min`), one after another where the parts would be too small to be of use
(`rotation`); credit is conserved (`limit_shares`). Source of the lease protocol: doorman, "Global Distributed Client
Side Rate Limiting".
"""

import math
from collections.abc import Iterable
from random import Random

import msgspec

from rowmill.core.counts import ProviderReport
from rowmill.core.leases import Lease, Share
from rowmill.flow.leases.capacity import Capacity
from rowmill.flow.leases.holder import Allocation, LeaseHolder
from rowmill.flow.leases.limit_shares import LimitShares
from rowmill.flow.leases.rotation import Room, rotate
from rowmill.flow.leases.slots import cut_slots, divide_slots

_SILENT_S = 1.0  # reports come four times a second
_REFRESH_S = 0.9  # with calls every quarter of a second this is about a second, however they jitter
_BINDING = 0.9  # of a share: who uses as much of it is held back by it, and not only by the other limit
_LOOK_S = 0.2  # without an occasion the allocator looks for silent holders and expired leases this often


class LeaseAllocator:
    """What one provider allows, cut among holders: integers that name one worker process each."""

    def __init__(self, provider: int, rng: Random, *, life_s: float = 3.0) -> None:
        self._provider = provider
        self._rng = rng
        self._life_s = life_s
        # All mutable state: what is there to cut, the holders, and when to look at them next.
        self._capacity = Capacity()
        self._requests: LimitShares | None = None
        self._tokens: LimitShares | None = None
        self._holders: dict[int, LeaseHolder] = {}
        self._divided = self._capacity  # what the last division went by
        self._pressing = False  # divide again at the next `renew`
        self._changed = False  # divide again soon
        self._freed = False  # something others want may be free
        self._divided_at = -math.inf
        self._looked_at = -math.inf

    def __repr__(self) -> str:
        rates = f"{self.outstanding_requests[0]:g} requests/s, {self.outstanding_tokens[0]:g} tokens/s"
        slots = f"{self.outstanding_in_flight} of {self._capacity.in_flight} slots"
        return f"<workers {[*self._holders]}: {rates}, {slots}{', pressing' if self.pressing else ''}>"

    @property
    def pressing(self) -> bool:
        """Whether `renew` should be called now rather than in its time."""
        return self._pressing or self._freed

    @property
    def outstanding_requests(self) -> tuple[float, float]:
        """Rate and burst of requests that holders may believe they have, as of the last call."""
        return _summed(holder.requests for holder in self._holders.values())

    @property
    def outstanding_tokens(self) -> tuple[float, float]:
        """Rate and burst of tokens likewise."""
        return _summed(holder.tokens for holder in self._holders.values())

    @property
    def outstanding_in_flight(self) -> int:
        """Slots likewise, and the requests on the wire that have lost theirs."""
        return sum(holder.slots for holder in self._holders.values())

    def join(self, holder: int, now: float) -> None:
        """Take in a worker process. Until its first report it counts as one that wants everything."""
        if holder not in self._holders:
            # Its requests will be like the others': only a share that lets those through is of use.
            largest = max((known.tokens.cost for known in self._holders.values()), default=1.0)
            self._holders[holder] = LeaseHolder(holder, now, largest)
            self._pressing = True

    def leave(self, holder: int, now: float) -> None:
        """Strike a dead worker process. Its part is free at once; its credit is lost, a debt of it stays."""
        gone = self._holders.pop(holder, None)
        if gone is not None:
            self._settle(now, -gone.requests.left(now), -gone.tokens.left(now))
            self._pressing = True

    def set_capacity(self, capacity: Capacity, now: float) -> None:
        """Say what there is to cut; the shares' credit is not looked at. To be called as often as one likes.

        What creeps, a rate or burst less than 5% from where it was, follows at the next call that is not right after
        a division; everything else at the next call of `renew`.
        """
        old, self._capacity = self._capacity, capacity
        if capacity == old:
            return
        self._requests = _resized(self._requests, capacity.requests, now)
        self._tokens = _resized(self._tokens, capacity.tokens, now)
        if capacity.in_flight < old.in_flight:
            # Whoever lowers it knows what is on the wire. To wait for it would put off the probe of a failing provider.
            for holder in self._holders.values():
                holder.forget_overhang(now)
        self._settle(now)
        self._changed = True
        if not capacity.is_nearly(self._divided):
            self._pressing = True

    def report(self, holder: int, report: ProviderReport, used: tuple[float, float], now: float) -> None:
        """Note a living worker's report, and what it used since the last: requests and tokens a second."""
        known = self._holders.get(holder)
        if known is None:
            return
        self._hear(known, now)
        had = known.slots
        known.reported(*used, report.in_flight, now)
        was_hungry = known.hungry
        known.wants_rate, known.wants_slots = report.wants_rate, report.wants_slots
        if not known.hungry and (report.idle or used[0] <= 0):
            # Out of rows. What it has is wasted from now on, and the others need not wait for the next refresh.
            known.requests.forget()
            known.tokens.forget()
            holds = known.requests.rate + known.tokens.rate > 0
            self._pressing |= was_hungry or (holds and any(other.hungry for other in self._holders.values()))
        self._freed |= known.slots < had
        limit = self._capacity.tokens
        if known.saw(report.largest, limit.rate if limit else 0.0, now) and limit is not None:
            self._pressing = True  # it borrows: the debt must not stay with a part of the rate
        if known.hungry and known.rotates_at is None and known.waits_since is None:
            self._pressing = True  # it had nothing to do at the last division

    def acknowledge(self, holder: int, serial: int, returned: tuple[float, float], now: float) -> None:
        """Note that a worker goes by the lease of this serial, and what it gave back: requests, tokens."""
        known = self._holders.get(holder)
        if known is None:
            return
        self._hear(known, now)
        if not known.acknowledged < serial <= known.serial:
            return
        # When the capacity has shrunk, what is on the wire is above it anyway: see `set_capacity`.
        draining = self.outstanding_in_flight <= self._capacity.in_flight
        before = known.outstanding
        known.superseded(serial, now, draining=draining)
        if known.outstanding != before or returned != (0.0, 0.0):
            self._settle(now, *returned)
            self._freed = True

    def renew(self, now: float) -> list[tuple[int, Lease]]:
        """Return the leases to send now. To be called about four times a second and right after acknowledgements."""
        if not (self._pressing or self._freed) and now - self._looked_at < _LOOK_S:
            return []
        self._looked_at = now
        self._look(now)
        if self._pressing or now - self._divided_at >= (_LOOK_S if self._changed else _REFRESH_S):
            self._divide(now)
        return self._send(now)

    def _hear(self, holder: LeaseHolder, now: float) -> None:
        holder.heard = now
        if holder.silent:
            holder.silent = False
            self._pressing = True

    def _settle(self, now: float, requests: float = 0.0, tokens: float = 0.0) -> None:
        """Put credit (below 0: debt) into the pools, and make them what is not outstanding."""
        if self._requests is not None:
            self._requests.settle((holder.requests for holder in self._holders.values()), now, requests)
        if self._tokens is not None:
            self._tokens.settle((holder.tokens for holder in self._holders.values()), now, tokens)

    def _look(self, now: float) -> None:
        """Find out who has fallen silent, and whose leases have expired."""
        for holder in self._holders.values():
            before = holder.outstanding
            holder.recount(now)
            if not holder.silent and now - holder.heard >= _SILENT_S:
                holder.silent = True
                holder.rotates_at = holder.waits_since = None
                self._pressing = True
            if holder.outstanding != before:
                self._pressing |= holder.silent  # the living are to have it
                self._freed = True
        if self._freed:
            self._settle(now)

    def _divide(self, now: float) -> None:
        """Decide what everyone is to have."""
        self._pressing = self._changed = False
        self._divided = self._capacity
        self._divided_at = now
        away = [holder for holder in self._holders.values() if holder.silent]
        living = [holder for holder in self._holders.values() if not holder.silent]
        # While anyone is hungry, idle holders get nothing; they are heard at once when they have work again.
        hungry = any(holder.hungry for holder in living)
        workers = [holder for holder in living if holder.working] if hungry else living
        slots = max(0, self._capacity.in_flight - sum(holder.slots for holder in away))
        requests = (math.inf, math.inf) if self._requests is None else self._requests.free(h.requests for h in away)
        tokens = (math.inf, math.inf) if self._tokens is None else self._tokens.free(h.tokens for h in away)
        # Without any slot nobody sends: the rates are kept ready for when there are some.
        chosen = rotate(workers, Room(slots or len(workers), requests, tokens), self._rng, now)
        for holder in living:
            if holder not in workers:
                holder.rotates_at = holder.waits_since = None
        senders = set(chosen)
        workers = [holder for holder in workers if holder in senders] if slots < len(workers) else workers
        for holder in living:
            holder.goal_slots = 0
        # A rate is of no use without slots, nor slots without a rate: who waits for the one is to have the other, too.
        # What it used of either says only how little it had of both.
        divide_slots(workers, senders, slots, self._capacity.ceiling)
        self._divide_rates(chosen, living, away)
        divide_slots(workers, senders, slots, self._capacity.ceiling, self._faster)

    def _divide_rates(self, chosen: list[LeaseHolder], living: list[LeaseHolder], away: list[LeaseHolder]) -> None:
        members = set(chosen)
        idle = [holder for holder in living if holder not in members]
        for holder in chosen:
            requests, tokens = holder.requests, holder.tokens
            begins = holder.wants_slots and not requests.lately
            requests.hungry = tokens.hungry = holder.fresh or holder.wants_rate or begins
            requests.grows = tokens.grows = holder.more_slots
            if self._requests is not None and self._tokens is not None:
                # Of two limits mostly one holds it back: more of the other would be wasted on it.
                lower, higher = sorted((requests, tokens), key=lambda allocation: allocation.filled)
                lower.hungry &= lower.filled >= _BINDING or higher.filled < _BINDING
        if self._requests is not None:
            self._requests.divide([h.requests for h in chosen], [h.requests for h in idle], [h.requests for h in away])
        if self._tokens is not None:
            self._tokens.divide([h.tokens for h in chosen], [h.tokens for h in idle], [h.tokens for h in away])

    def _faster(self, holder: LeaseHolder) -> float:
        """Return how many times as many requests a second it may send by the last division, if it waits for a rate."""
        if not holder.wants_rate:
            return 1.0
        limited = [(self._requests, holder.requests), (self._tokens, holder.tokens)]
        times = [part.goal_rate / part.lately for limit, part in limited if limit is not None and part.lately]
        return max(1.0, min(times, default=1.0))

    def _send(self, now: float) -> list[tuple[int, Lease]]:
        """Cut the next lease of every living holder; return those that say something new, or are due."""
        self._freed = False
        everyone = self._holders.values()
        living = [holder for holder in everyone if not holder.silent]
        # Who has nothing goes first.
        living.sort(key=lambda holder: (holder.requests.rate + holder.tokens.rate > 0, holder.slots > 0))
        nothing: list[Share | None] = [None] * len(living)
        requests, tokens = nothing, nothing
        if self._requests is not None:
            requests = [*self._requests.cut([h.requests for h in living], (h.requests for h in everyone), now)]
        if self._tokens is not None:
            tokens = [*self._tokens.cut([h.tokens for h in living], (h.tokens for h in everyone), now)]
        free = max(0, self._capacity.in_flight - self.outstanding_in_flight)
        leases = []
        for holder, request, token, slots in zip(living, requests, tokens, cut_slots(living, free), strict=True):
            lease = self._lease(holder, request, token, slots, now)
            if now - holder.sent_at >= _REFRESH_S or not _says_the_same(holder, lease):
                holder.sent(lease, now)
                leases.append((holder.number, lease))
        if leases:
            self._settle(now)
        return leases

    def _lease(
        self, holder: LeaseHolder, requests: Share | None, tokens: Share | None, slots: int, now: float
    ) -> Lease:
        capacity = self._capacity
        return Lease(
            provider=self._provider,
            serial=holder.serial + 1,
            expires=now + self._life_s,
            in_flight=0 if capacity.closed else slots,
            requests=requests,
            tokens=tokens,
            largest=capacity.largest,
            paused_until=capacity.paused_until,
            closed=capacity.closed,
            failing=capacity.failing,
            last=capacity.last,
            proven=capacity.proven,
            silent=capacity.silent,
            known=capacity.known,
        )


def _says_the_same(holder: LeaseHolder, lease: Lease) -> bool:
    if not holder.leases:
        return False
    last = holder.leases[-1]
    return lease == msgspec.structs.replace(
        last,
        serial=lease.serial,
        expires=lease.expires,
        requests=last.requests and Share(last.requests.rate, last.requests.burst),
        tokens=last.tokens and Share(last.tokens.rate, last.tokens.burst),
    )


def _resized(shares: LimitShares | None, share: Share | None, now: float) -> LimitShares | None:
    if share is None:
        return None
    shares = shares or LimitShares(now)
    shares.rate, shares.burst = share.rate, share.burst
    return shares


def _summed(allocations: Iterable[Allocation]) -> tuple[float, float]:
    allocations = list(allocations)
    return math.fsum(allocation.rate for allocation in allocations), math.fsum(
        allocation.burst for allocation in allocations
    )
