"""Who holds a share when there is not enough for all: in the order of waiting, each for about a second.

A share is of no use below the cost of one request, so what is too small to be cut goes round. Two requests a minute
for twenty workers is one share that wanders.
"""

import math
from collections.abc import Sequence
from random import Random

from rowmill.flow.leases.holder import LeaseHolder

# A turn is at least so long, and long enough to earn one request; the dice keep it out of step with the others':
# in step, the credit of a slow limit would come due with the same holder every time.
_TURN_S = 1.0
_DICE = 0.25


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

    def turn(self, holder: LeaseHolder) -> float:
        """Return the seconds that a turn has to last to be of use."""
        costs = holder.requests.cost, holder.tokens.cost
        earning = (
            min(cost, burst) / rate
            for cost, burst, rate in zip(costs, self._bursts, self.rates, strict=True)
            if 0 < rate < math.inf
        )
        return max(_TURN_S, *earning, 0.0)


def take_turns(candidates: Sequence[LeaseHolder], room: Room, rng: Random, now: float) -> list[LeaseHolder]:
    """Return those who hold a share from now on, and note who has to wait."""
    scarce = room.slots < len(candidates)
    protected: list[LeaseHolder] = []
    waiting: list[LeaseHolder] = []
    over: list[LeaseHolder] = []
    for holder in candidates:
        if holder.turn_ends is None or (scarce and not holder.slots):
            waiting.append(holder)
        else:
            # Who has nothing to wait for does not need its turn.
            (protected if holder.turn_ends > now and holder.hungry else over).append(holder)
    protected.sort(key=lambda holder: holder.turn_ends or now)
    # Who still has requests on the wire could not use a single slot.
    waiting.sort(
        key=lambda holder: (
            not holder.working,
            scarce and holder.in_flight > 0,
            now if holder.waits_since is None else holder.waits_since,
        )
    )
    over.sort(key=lambda holder: -(holder.turn_ends or now))
    chosen = [holder for holder in protected if room.fits(holder)]
    for holder in waiting:
        # Nobody is passed over: one with large requests would never get its turn.
        if not room.fits(holder):
            break
        chosen.append(holder)
        holder.turn_ends = now + room.turn(holder) * rng.uniform(1.0, 1.0 + _DICE)
        holder.waits_since = None
    chosen += [holder for holder in over if room.fits(holder)]
    members = set(chosen)
    for holder in candidates:
        if holder not in members:
            holder.turn_ends = None
            if holder.waits_since is None:
                holder.waits_since = now
    return chosen
