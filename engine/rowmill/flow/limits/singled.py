"""Whether a row is kept out although others are let through: then what it meets is its own.

A 429 or a 503 says nothing of its row, so it spends none of its attempts; nor does any failure while the provider
fails. But some servers answer one row so for ever, for its size or for what is in it, and say nothing of it. By chance
a row is kept out `times` times in a row as rarely as

    share ** times

where `share` is how often one is kept out that is let through in the end: failures that turned out to be of that kind,
of all that was let through since the row's first. A limit that is reached, or an outage, keeps out many rows, which are
let through later, so that the share is large. Where nothing was let through since, nothing is known.

At the end of a file nothing more is let through, for nothing more is asked. Of a row or two that are left alone no rate
is the matter, and within a minute no limit of a minute either.
"""

from dataclasses import dataclass

_ALONE = 1e-3  # rarer: it tells nothing of the provider
_OWN = 1e-9  # rarer: not by chance, in any run
_WINDOW_S = 75.0  # limits are of a minute: what was let through together with the row tells something by then
_MOST_ROWS = 10_000
_LEFT = 2  # rows; so few are asked more rarely than any limit is about
_TIMES_LEFT = 3


@dataclass(slots=True)
class _Refused:
    """One row."""

    since: float  # when it was refused first
    answers: int  # by then
    in_flight: int  # then: of what was answered since, so many may have been let through before
    passed: int  # see `Singled`, by then
    last_answers: int  # when it was refused last
    last_unexplained: int
    times: int = 1
    counted: int = 0  # of these, as attempts


class Singled:
    """The rows that one provider has kept out, and has not let through since, as one worker sees them.

    rows: by number. What becomes of them is to be told, by `passed` or `forget`.
    """

    def __init__(self) -> None:
        self.rows: dict[int, _Refused] = {}
        self._unexplained = 0  # refusals of rows since whose first one nobody was let through
        self._passed = 0  # of rows that were let through in the end

    def __repr__(self) -> str:
        return f"<{len(self.rows)} rows kept out>"

    def refused(self, row: int, now: float, *, answers: int, in_flight: int, left: int = _LEFT + 1) -> tuple[bool, int]:
        """Count that the row was kept out; returns whether that is its own, and how many attempts it has spent.

        answers: valid replies to all rows so far. in_flight: requests now. left: rows in hand, this one included.
        """
        seen = self.rows.get(row)
        if seen is None:
            self._unexplained += 1
            if len(self.rows) >= _MOST_ROWS:  # while all fail, each that is tried is one
                self.rows.pop(next(iter(self.rows)))
            self.rows[row] = _Refused(now, answers, in_flight, self._passed, answers, self._unexplained)
            return False, 0
        alone, spent = self._judged(seen, now, answers)
        if spent or left > _LEFT or not answers or seen.times <= _TIMES_LEFT:
            return alone, spent
        return True, self._spent(seen) if now - seen.since >= _WINDOW_S else 0

    def _judged(self, seen: _Refused, now: float, answers: int) -> tuple[bool, int]:
        """Judge by what was let through since; as `refused`."""
        later = answers - seen.answers - (seen.in_flight if now - seen.since < _WINDOW_S else 0)
        self._unexplained += later <= 0
        nobody = answers == seen.last_answers and self._unexplained > seen.last_unexplained
        seen.last_answers, seen.last_unexplained = answers, self._unexplained
        if nobody and later > 0:
            return False, 0  # there was no room for others either
        seen.times += 1
        if later <= 0:
            return False, 0
        passed = self._passed - seen.passed
        if _chance(passed, later, seen.times) >= _OWN:
            waiting = len(self.rows) - 1  # of them it is not known yet
            return _chance(passed + waiting, later, seen.times) < _ALONE, 0
        return True, self._spent(seen)

    @staticmethod
    def _spent(seen: _Refused) -> int:
        spent, seen.counted = seen.times - seen.counted, seen.times
        return spent

    def passed(self, row: int) -> None:
        """Hear that a row was let through: its refusals were those of a limit."""
        if (seen := self.rows.pop(row, None)) is not None:
            self._passed += seen.times

    def forget(self, row: int) -> None:
        """Hear that the row has come to its end otherwise."""
        self.rows.pop(row, None)


def _chance(passed: int, later: int, times: int) -> float:
    share: float = min(1.0, (passed + 1) / (later + 1))
    return share**times
