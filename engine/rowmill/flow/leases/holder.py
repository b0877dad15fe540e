"""What the lease allocator knows of one worker: what it was given, what it may believe it has, and what it wants."""

import math

from rowmill.core.leases import Lease, Share

# A larger request than usual is expected again for this long: the burst of a share has to let it through.
_LARGEST_S = 10.0
# A worker whose slots were cut still has their requests on the wire. They count as long as this, and then as hung.
_DRAIN_S = 30.0
_LATELY_S = 1.0  # what "lately" means: single reports are too short to tell a rate from
_FRESH_S = 1.0  # a worker that has just joined is taken for hungry so long, or until its second report of requests
_IDLE_S = 0.5  # without a request, and nothing on the wire, a worker has nothing to do


class Allocation:
    """One worker's part of one limit, as the allocator sees it."""

    __slots__ = (
        "_earned", "_latest", "_owed", "_owed_at", "burst", "cost", "goal_burst", "goal_rate", "grows", "hungry",
        "rate", "used",
    )  # fmt: skip

    def __init__(self, cost: float) -> None:
        self.rate = 0.0  # outstanding, as the burst: the most that it may believe it has
        self.burst = 0.0
        self.goal_rate = 0.0  # what the last division gives it, once others have let go of it
        self.goal_burst = 0.0
        self.used = 0.0  # units a second lately
        self._latest = 0.0  # likewise, by the last report alone
        self.grows = 1.0  # so many times as much it will use by the slots that it gets
        self.cost = cost  # of one request at most; a smaller burst is of no use
        self.hungry = False
        self._owed = 0.0  # a debt handed to it, less what it has earned since
        self._owed_at = -math.inf
        self._earned = 0.0  # units a second

    @property
    def filled(self) -> float:
        """How much of its rate it has used lately."""
        return self.used / self.rate if self.rate else math.inf

    @property
    def lately(self) -> float:
        """What it used lately, or by its last report alone: one that has just got slots uses more than before."""
        return max(self.used, self._latest)

    def reported(self, used: float, weight: float) -> None:
        """Note what was used since the last report, and what that counts for."""
        self.used += weight * (used - self.used)
        self._latest = used

    def forget(self) -> None:
        """Nothing is used any more."""
        self.used = self._latest = 0.0

    def handed(self, share: Share, now: float) -> None:
        """Note a share that was sent."""
        self._owed = self.debt(now) + max(0.0, -share.credit)
        self._owed_at = now
        self._earned = share.rate

    def cleared(self) -> None:
        """Note that it gave back all its credit, or its debt."""
        self._owed = 0.0

    def debt(self, now: float) -> float:
        """Return what it still owes at most, of the debts that the allocator has handed to it."""
        return max(0.0, self._owed - (now - self._owed_at) * self._earned) if self._owed else 0.0

    def left(self, now: float) -> float:
        """Return the debt to reckon with when it dies: a request above the burst may just have borrowed."""
        return max(self.debt(now), self.cost - self.burst if self.burst > 0 else 0.0)


class LeaseHolder:
    """One worker process. Dead, it is forgotten; its successor is another holder."""

    def __init__(self, number: int, now: float, tokens: float) -> None:
        self.number = number
        self.heard = now
        self._joined = now
        self.silent = False
        self.fresh = True  # has not said yet what it wants: taken for one that wants everything
        # Given
        self.serial = 0  # of the newest lease sent
        self.acknowledged = 0
        self.sent_at = -math.inf
        self.leases: list[Lease] = []  # not expired, and none newer acknowledged: it may be going by any of them
        self.requests = Allocation(1.0)
        self.tokens = Allocation(tokens)
        self.slots = 0  # outstanding
        self.goal_slots = 0
        self._overhang = 0  # requests on the wire for which it has no slots any more
        self._overhang_ends = 0.0
        # Wanted
        self.in_flight = 0
        self.wants_rate = False
        self.wants_slots = False
        self._largest_until = -math.inf
        self._used_at = self._reported_at = now
        # Its place in the rotation, where there is not enough for all
        self.rotates_at: float | None = None  # when its share goes to the next; None: it has none
        self.waits_since: float | None = None

    @property
    def hungry(self) -> bool:
        """Whether it could use more of anything."""
        return self.fresh or self.wants_rate or self.wants_slots

    @property
    def working(self) -> bool:
        """Whether it has anything to send, or had lately."""
        return self.hungry or self.in_flight > 0 or self.heard - self._used_at < _IDLE_S

    @property
    def more_slots(self) -> float:
        """How many times as many slots as it has it is to have, if it waits for them."""
        had = max(1, self.slots, self.in_flight)
        return max(1.0, self.goal_slots / had) if self.wants_slots else 1.0

    @property
    def outstanding(self) -> tuple[float, float, float, float, int]:
        """All that it may believe it has, to be compared."""
        return self.requests.rate, self.requests.burst, self.tokens.rate, self.tokens.burst, self.slots

    def saw(self, largest: int, token_rate: float, now: float) -> bool:
        """Note the largest request lately; True where it is larger than what its share lets through.

        Kept until a debt of that size is earned for sure.
        """
        if largest > 0 and (largest >= self.tokens.cost or now >= self._largest_until):
            grown = self.tokens.cost < largest > self.tokens.burst
            self.tokens.cost = float(largest)
            self._largest_until = now + max(_LARGEST_S, 2 * largest / token_rate if token_rate > 0 else 0.0)
            return grown
        return False

    def reported(self, requests: float, tokens: float, in_flight: int, now: float) -> None:
        """Note what it used since its last report, in units a second, and how many requests it has on the wire."""
        weight = min(1.0, (now - self._reported_at) / _LATELY_S)
        self._reported_at = now
        # The first reports come before the first rows are read, and the next one when a few have been sent. Taken for
        # idle, a worker would start with nothing.
        began = self._used_at > self._joined
        self.fresh = self.fresh and not (began and requests > 0) and now - self._joined < _FRESH_S
        self.requests.reported(requests, weight)
        self.tokens.reported(tokens, weight)
        if requests > 0:
            self._used_at = now
        self.in_flight = in_flight
        self._overhang = min(self._overhang, in_flight)
        self.recount(now)

    def sent(self, lease: Lease, now: float) -> None:
        """Note a lease that goes out to it."""
        self.serial = lease.serial
        self.sent_at = now
        self.leases.append(lease)
        for allocation, share in ((self.requests, lease.requests), (self.tokens, lease.tokens)):
            if share is not None:
                allocation.handed(share, now)
        self.recount(now)

    def superseded(self, serial: int, now: float, *, draining: bool) -> None:
        """Note that it goes by this lease or a newer one; `draining`: requests still on the wire keep their slots."""
        self.acknowledged = serial
        had = self.slots
        self.leases = [lease for lease in self.leases if lease.serial >= serial]
        if self.leases and serial == self.serial:
            for allocation, share in ((self.requests, self.leases[-1].requests), (self.tokens, self.leases[-1].tokens)):
                if share is not None and share.rate <= 0:
                    allocation.cleared()
        if draining and not self.fresh:
            # The last report is older than the lease that it sends by. The next one says what it really is.
            self._overhang = had
            self._overhang_ends = now + _DRAIN_S
        self.recount(now)

    def forget_overhang(self, now: float) -> None:
        """Count only what leases allow."""
        self._overhang = 0
        self.recount(now)

    def recount(self, now: float) -> None:
        """Drop what has expired, and add up what is outstanding: the largest of all leases it may be going by."""
        self.leases = [lease for lease in self.leases if lease.expires > now]
        rate = burst = token_rate = token_burst = 0.0
        slots = 0
        for lease in self.leases:
            if (share := lease.requests) is not None:
                rate = max(rate, share.rate)
                burst = max(burst, share.burst)
            if (share := lease.tokens) is not None:
                token_rate = max(token_rate, share.rate)
                token_burst = max(token_burst, share.burst)
            slots = max(slots, lease.in_flight)
        self.requests.rate, self.requests.burst = rate, burst
        self.tokens.rate, self.tokens.burst = token_rate, token_burst
        if not self.leases or now >= self._overhang_ends:
            self._overhang = 0
        self.slots = max(slots, self._overhang)
