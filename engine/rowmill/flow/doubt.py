"""Whether a refusal is the row's or the provider's: what a 401, 403, 404 or a redirect alone does not tell.

A moderation answers one prompt with 403, a router 404 for one image, and a gateway 401 once in a while; the same
statuses say that the key is wrong, or the URL. What becomes of the other rows tells them apart:

- Where the provider has answered others in this session, a refusal is the row's own. One that speaks of the key or of
  the model is doubted first: the row is tried again, and fails if it is refused although others were answered since.
- Where nobody was answered yet, the row waits, and a few others are tried. An answer to any of them clears the
  provider.
- Where it has answered in an earlier session of the run, so does a row that is left alone there fail, unless it is
  refused for the key or the model; and each that has failed before, where only such rows are asked (`rowmill retry`).
- Refused without an answer between: so many different rows, or one row so often that nothing else is left to tell,
  and it is the provider. The rows that waited have no outcome then: nothing was wrong with them.

Several workers that ask the same provider find out together: each tries its share of rows and then waits for word of
the others' answers, while the supervisor counts what all of them were refused.
"""

from math import ceil
from typing import Literal

Verdict = Literal["row", "again", "provider"]

ROWS_UNPROVEN = 8  # different rows, where the provider has never answered
_ROWS_PROVEN = 16  # and where it has, but not since the first of them
_TIMES = 3  # that one row is refused where nobody was ever answered
_TIMES_PROVEN = 4
_FIRST_WAIT_S = 0.2
_NEWS_S = 2.0  # by then a lease has brought word of what other workers were answered


class Doubt:
    """The rows that one provider has refused since it answered last.

    rows: row -> how often. Sending is held down while there are any, see `room`.
    """

    def __init__(self, workers: int = 1) -> None:
        """`workers`: so many ask the provider."""
        self._share = ceil(ROWS_UNPROVEN / workers)
        self.rows: dict[int, int] = {}
        self._since = 0.0  # the first of them came
        self._before: set[int] = set()  # rows that were refused before the last answer, and have come to no end

    def __repr__(self) -> str:
        return f"<{len(self.rows)} rows refused since the last answer, {len(self._before)} before it>"

    def answered(self, started: float) -> bool:
        """Hear of an answer to a request that was sent at `started`; True where it speaks for the provider.

        One to a request from before the first refusal says nothing of what the provider does now.
        """
        if started <= self._since:
            return False
        self._before.update(self.rows)
        self.rows.clear()
        return True

    def refused(
        self, row: int, now: float, *, proven: bool, whole: bool, single: bool, news: bool, known: bool = False
    ) -> Verdict:
        """Say whose a refusal is that has come now.

        proven: the provider has answered in this session; known: or in an earlier one of the run. whole: it speaks of
        the key or the model. single: there is no other provider that could be asked instead. news: other workers ask it
        too, and word of their answers may come.
        """
        if proven and (not whole or row in self._before):
            self.forget(row)
            return "row"
        if not self.rows:
            self._since = now
        times = self.rows[row] = self.rows.get(row, 0) + 1
        if len(self.rows) >= (_ROWS_PROVEN if proven else ROWS_UNPROVEN):
            return "again" if news and not proven and now < self._since + _NEWS_S else "provider"
        if times < (_TIMES_PROVEN if proven else _TIMES):
            return "again"
        if single and not proven and (whole or not known):
            return "provider"
        self.forget(row)  # nothing is left to tell: one row speaks for no provider that has answered, or beside others
        return "row"

    def forget(self, row: int) -> None:
        """Hear that the row has failed here for good."""
        self.rows.pop(row, None)
        self._before.discard(row)

    def ended(self, row: int) -> None:
        """Hear that the row has come to its end, whoever has answered it: what was refused then still counts."""
        self._before.discard(row)

    def room(self, *, proven: bool) -> int:
        """Return how many requests in flight are enough to find out."""
        most = _ROWS_PROVEN if proven else self._share
        return max(1, most - len(self.rows))

    @property
    def quiet_until(self) -> float:
        """When sending goes on: where so many rows were refused, only word of other workers' answers can clear it."""
        return self._since + _NEWS_S if len(self.rows) >= self._share else 0.0

    def wait_s(self, row: int) -> float:
        """Return for how long a row waits until it is tried again: longer each time, and others are tried meanwhile."""
        return _FIRST_WAIT_S * 2.0 ** self.rows.get(row, 1)
