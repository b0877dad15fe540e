"""Who wins: the verdicts of judging steps on two answers, counted, with the bounds that so many rows allow."""

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt

import msgspec

FIRST, SECOND, TIE, UNREADABLE, FAILED = range(1, 6)  # what a judge has come to on a row; 0: it was not asked
WORDS = {"first": FIRST, "second": SECOND, "tie": TIE}  # of the answers by their place in what the judge read
WINNER = "winner"  # the member with the word, of a verdict that is an object

_Z = 1.959964  # standard deviations on both sides of the mean that hold 95% of a normal distribution
_HALF = 0.5


class WinShare(msgspec.Struct, frozen=True):
    """So many of the rows that were counted, as a share with the bounds between which it lies with 95%: 0 to 1."""

    rows: int
    share: float
    low: float
    high: float


class WinRates(msgspec.Struct, frozen=True, kw_only=True):
    """Which of two answers is better, by the verdicts of all steps that compare them.

    A row is won by the answer that more than half of its verdicts prefer, and is a tie where none is.
    """

    between: tuple[str, str]
    judges: tuple[str, ...]  # steps
    rows: int  # of which every judge has given a verdict that can be read: what the shares are of
    wins: tuple[WinShare, WinShare]
    ties: WinShare
    decided: WinShare  # the first one's part of the rows that are no tie
    better: str | None  # of the two, where `decided` lies on one side of a half, bounds and all
    unreadable: int  # rows with a verdict that is none
    incomplete: int  # rows that lack one of the verdicts: its step has failed, or a condition has left them out before
    # Rows whose verdicts preferred what stood at that place, though the order changed; None: it never does.
    in_both_orders: tuple[int, int] | None


def wilson(rows: int, of: int) -> WinShare:
    """Return a share with its bounds by Wilson's score interval, which holds for few rows and near 0 and 1, too."""
    if not of:
        return WinShare(0, 0.0, 0.0, 1.0)
    share, z2 = rows / of, _Z * _Z
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z * sqrt(share * (1 - share) / of + z2 / (4 * of * of)) / (1 + z2 / of)
    return WinShare(rows, *(round(max(0.0, min(1.0, each)), 6) for each in (share, middle - half, middle + half)))


def verdict(answer: object) -> int:
    """Return what a judge says: `FIRST`, `SECOND`, `TIE`, or `UNREADABLE` where that is none of the three words."""
    word = answer.get(WINNER) if isinstance(answer, Mapping) else answer
    return WORDS.get(word.strip(" \t\r\n.!*'\"").lower(), UNREADABLE) if isinstance(word, str) else UNREADABLE


def counted(
    between: tuple[str, str], judges: Sequence[tuple[str, bool]], rows: Iterable[tuple[Sequence[int], int]]
) -> WinRates:
    """Return who wins. judges: steps, and whether each read the second answer first.

    rows: verdicts, one of each judge, and how many rows have them.
    """
    wins, places = [0, 0], [0, 0]
    ties = unreadable = incomplete = 0
    both_orders = len({turned for _, turned in judges}) > 1
    for verdicts, count in rows:
        if UNREADABLE in verdicts:
            unreadable += count
        elif FAILED in verdicts or (any(verdicts) and not all(verdicts)):
            incomplete += count
        elif any(verdicts):
            votes = [_preferred(each, turned) for each, (_, turned) in zip(verdicts, judges, strict=True)]
            winner = next((who for who in (0, 1) if votes.count(who) > len(votes) / 2), None)
            if winner is None:
                ties += count
            else:
                wins[winner] += count
            for place, word in enumerate((FIRST, SECOND)):
                if verdicts.count(word) == len(verdicts):
                    places[place] += count
    decided = wilson(wins[0], sum(wins))
    judged = sum(wins) + ties
    return WinRates(
        between=between,
        judges=tuple(name for name, _ in judges),
        rows=judged,
        wins=(wilson(wins[0], judged), wilson(wins[1], judged)),
        ties=wilson(ties, judged),
        decided=decided,
        better=between[0] if decided.low > _HALF else between[1] if decided.high < _HALF else None,
        unreadable=unreadable,
        incomplete=incomplete,
        in_both_orders=(places[0], places[1]) if both_orders else None,
    )


def _preferred(word: int, turned: bool) -> int | None:
    """Return which answer a verdict prefers, 0 or 1; None: neither."""
    return None if word == TIE else int((word == SECOND) != turned)
