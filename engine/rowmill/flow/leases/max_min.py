"""Max-min fair division by water-filling: nobody gets more than it wants while another has less and wants more.

All vessels are filled to one level; those that are full drop out, and what they leave raises the level of the others.
Source: Bertsekas, Gallager, "Data Networks", 6.5.2. What is left when every want is met is lent equally: it costs
nothing, and who comes to want it has it at once.
"""

from collections.abc import Sequence


def water_fill(capacity: float, wants: Sequence[float], first: Sequence[bool]) -> list[float]:
    """Divide the whole capacity among wants of 0 to `math.inf`; one share for each want, in their order.

    What is left over goes to those marked as `first`; where none is, to all.
    """
    shares = [0.0] * len(wants)
    left = capacity
    for count, place in zip(range(len(wants), 0, -1), sorted(range(len(wants)), key=wants.__getitem__), strict=True):
        shares[place] = min(wants[place], left / count)
        left -= shares[place]
    if left > 0:
        takers = sum(first)
        shares = [
            share + (0.0 if takers and not marked else left / (takers or len(shares)))
            for share, marked in zip(shares, first, strict=True)
        ]
    return shares


def fill_slots(capacity: int, wants: Sequence[int], ceiling: int) -> list[int]:
    """Divide whole slots likewise, none above the ceiling. Where there are enough, every want of 1 or more gets 1."""
    shares = _share_out(capacity, [min(want, ceiling) for want in wants])
    more = _share_out(capacity - sum(shares), [ceiling - share for share in shares])
    return [share + extra for share, extra in zip(shares, more, strict=True)]


def _share_out(capacity: int, wants: Sequence[int]) -> list[int]:
    shares = [0] * len(wants)
    left = capacity
    for count, place in zip(range(len(wants), 0, -1), sorted(range(len(wants)), key=wants.__getitem__), strict=True):
        shares[place] = min(wants[place], left // count)
        left -= shares[place]
    return shares
