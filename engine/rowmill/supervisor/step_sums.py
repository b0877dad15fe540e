"""What the rows of a run have come to, in each of its steps: as workers tell it of open shards, and seals of others.

A row that has failed in one step, or was left out, has an outcome in those behind it, too, where nothing was asked.
What a step has had to do itself is told by what the one before had sealed of the same shard.
"""

from collections.abc import Sequence

import msgspec

from rowmill.core.counts import Totals
from rowmill.core.reports import StepFigures
from rowmill.store.seal import Sealed


class _Step:
    """One step."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.done = Totals()  # of sealed shards
        self.left_out = 0  # of their rows, those of steps before counted
        self.open: dict[int, Totals] = {}  # shard -> acknowledged so far
        self.given: dict[int, tuple[int, int]] = {}  # shard, once the step before had it -> rows failed, left out there
        self.failed_before = self.left_out_before = 0  # the same of sealed shards, in all

    @property
    def totals(self) -> Totals:
        """What its rows add up to, those that were passed over among them."""
        return Totals.total((self.done, *self.open.values()))


class StepSums:
    """The sums of all steps, in their order; of a run of one, of that.

    count: how many there are.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._steps = [_Step(name) for name in names]
        self.count = len(names)

    def opened(self, step: int, number: int, totals: Totals) -> None:
        """Take in what an open shard has come to."""
        self._steps[step].open[number] = totals

    def open_rows(self, step: int, number: int) -> int:
        """Return the rows of an open shard that have an outcome."""
        found = self._steps[step].open.get(number)
        return 0 if found is None else found.rows

    def sealed(self, step: int, sealed: Sealed) -> None:
        """Count a shard that is finished in a step."""
        own, number = self._steps[step], sealed.shard.number
        own.open.pop(number, None)
        own.done.add(sealed.totals)
        own.left_out += sealed.left_out
        failed, left_out = own.given.pop(number, (0, 0))
        own.failed_before += failed
        own.left_out_before += left_out
        if step + 1 < self.count:
            self._steps[step + 1].given[number] = (sealed.totals.failed, sealed.left_out)

    @property
    def totals(self) -> Totals:
        """The rows of the last step, and what all of them have taken."""
        each = [step.totals for step in self._steps]
        whole = Totals.total(each)
        whole.rows, whole.failed = each[-1].rows, each[-1].failed
        return whole

    @property
    def work(self) -> Totals:
        """The rows of all steps, and what they have taken."""
        return Totals.total(step.totals for step in self._steps)

    @property
    def figures(self) -> tuple[StepFigures, ...] | msgspec.UnsetType:
        """What each step has come to by itself, where there are several."""
        return tuple(map(_figures, self._steps)) if self.count > 1 else msgspec.UNSET


def _figures(step: _Step) -> StepFigures:
    totals = step.totals
    open_given = [given for number, given in step.given.items() if number in step.open]
    failed = step.failed_before + sum(failed for failed, _ in open_given)
    left_out = step.left_out_before + sum(left_out for _, left_out in open_given)
    return StepFigures(
        name=step.name,
        rows=max(0, totals.rows - failed - left_out),  # of an open shard some may not have been passed over yet
        failed=max(0, totals.failed - failed),
        left_out=max(0, step.left_out - step.left_out_before),
        requests=totals.requests,
        prompt_tokens=totals.prompt_tokens,
        completion_tokens=totals.completion_tokens,
    )
