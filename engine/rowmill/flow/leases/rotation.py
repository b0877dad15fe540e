"""Who holds a share when there is not enough for all: in the order of waiting, each for about a second.

A share is of no use below the cost of one request, so what is too small to be cut goes round. Two requests a minute
for twenty workers is one share that wanders.
"""

import math
from collections.abc import Sequence
from random import Random

from rowmill.flow.leases.holder import LeaseHolder

# A share stays with its holder at least so long, and long enough to earn one request. The jitter keeps it out of step
# with the others': in step, the credit of a slow limit would come due with the same holder every time.
_ROTATION_S = 1.0
_JITTER = 0.25


class Room:
    """What can be cut up: each member takes one slot and its largest request's worth of either burst."""

    def __init__(self, slots: float, requests: tuple[float, float], tokens: tuple[float, float]) -> None:
        self.slots = slots
        self.rates = requests[0], tokens[0]  # units a second
        self._bursts = requests[1], tokens[1]
        self._taken = [0.0, 0.0]
        self._members = 0

    def fits(self, holder: LeaseHolder) -> bool:
        """Tell whether one more can be let in, and if so let it in. The first always can."""
        costs = holder.requests.cost, holder.tokens.cost
        if self._members and (
            self._members >= self.slots
            or any(taken + cost > burst for taken, cost, burst in zip(self._taken, costs, self._bursts, strict=True))
        ):
            return False
        self._members += 1
        self._taken = [taken + cost for taken, cost in zip(self._taken, costs, strict=True)]
        return True

    def rotation_s(self, holder: LeaseHolder) -> float:
        """Return the seconds that a share has to stay with a holder to be of use."""
        costs = holder.requests.cost, holder.tokens.cost
        earning = (
            min(cost, burst) / rate
            for cost, burst, rate in zip(costs, self._bursts, self.rates, strict=True)
            if 0 < rate < math.inf
        )
        return max(_ROTATION_S, *earning, 0.0)


def rotate(candidates: Sequence[LeaseHolder], room: Room, rng: Random, now: float) -> list[LeaseHolder]:
    """Return those who hold a share from now on, and note who has to wait."""
    scarce = room.slots < len(candidates)
    protected: list[LeaseHolder] = []
    waiting: list[LeaseHolder] = []
    over: list[LeaseHolder] = []
    for holder in candidates:
        if holder.rotates_at is None or (scarce and not holder.slots):
            waiting.append(holder)
        else:
            # Who has nothing to wait for does not need its share.
            (protected if holder.rotates_at > now and holder.hungry else over).append(holder)
    protected.sort(key=lambda holder: holder.rotates_at or now)
    # Who still has requests on the wire could not use a single slot.
    waiting.sort(
        key=lambda holder: (
            not holder.working,
            scarce and holder.in_flight > 0,
            now if holder.waits_since is None else holder.waits_since,
        )
    )
    over.sort(key=lambda holder: -(holder.rotates_at or now))
    chosen = [holder for holder in protected if room.fits(holder)]
    for holder in waiting:
        # Nobody is passed over: one with large requests would never get its share.
        if not room.fits(holder):
            break
        chosen.append(holder)
        holder.rotates_at = now + room.rotation_s(holder) * rng.uniform(1.0, 1.0 + _JITTER)
        holder.waits_since = None
    chosen += [holder for holder in over if room.fits(holder)]
    members = set(chosen)
    for holder in candidates:
        if holder not in members:
            holder.rotates_at = None
            if holder.waits_since is None:
                holder.waits_since = now
    return chosen
