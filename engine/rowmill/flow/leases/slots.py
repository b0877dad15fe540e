"""Slots, the requests at a time, among holders: the decision, and how much of it can be handed out now."""

import math
from collections.abc import Callable, Collection, Sequence

from rowmill.flow.leases.holder import LeaseHolder
from rowmill.flow.leases.max_min import fill_slots

_HEADROOM = 1.25  # who is not hungry gets so much more than it has in flight


def divide_slots(
    workers: Sequence[LeaseHolder],
    senders: Collection[LeaseHolder],
    slots: int,
    ceiling: int,
    faster: Callable[[LeaseHolder], float] = lambda _: 1.0,
) -> None:
    """Decide what each worker is to have: 1 at least where there are enough, nobody above the ceiling.

    senders: those of them that have a share of the rates. faster: how many times as fast one may become by its share.
    """
    rotating = len(senders) < len(workers)
    wants = [_want(holder, holder in senders, rotating, ceiling, faster(holder)) for holder in workers]
    for holder, given in zip(workers, fill_slots(slots, wants, ceiling), strict=True):
        holder.goal_slots = given


def _want(holder: LeaseHolder, sender: bool, rotating: bool, ceiling: int, faster: float) -> int:
    if rotating and not sender:
        return max(1, holder.in_flight)
    # Who has a share of the rates now may have all there is: the whole rate is to go through its slots for the time.
    if rotating or holder.fresh or holder.wants_slots:
        return ceiling
    return math.ceil(min(ceiling, holder.in_flight * faster) * _HEADROOM) + 1 if holder.working else 0


def cut_slots(living: Sequence[LeaseHolder], free: int) -> list[int]:
    """Return the next slots of each: shrinks at once, growth out of what is free, a first slot before a second."""
    slots = [min(holder.goal_slots, holder.slots) for holder in living]
    for first in (True, False):
        for place, holder in enumerate(living):
            goal = min(1, holder.goal_slots) if first else holder.goal_slots
            # Only what is above the outstanding ones takes from what is free.
            had = max(slots[place], holder.slots)
            more = max(0, min(goal - had, free))
            if more:
                slots[place] = had + more
                free -= more
    return slots
