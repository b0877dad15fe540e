"""What each of several steps has come to by itself, though every row has an outcome in all of them."""

import msgspec

from rowmill.core.counts import Totals
from rowmill.core.rows import Shard
from rowmill.store.seal import Sealed
from rowmill.supervisor.step_sums import StepSums


def sealed(number: int, *, failed: int = 0, left_out: int = 0, requests: int = 10) -> Sealed:
    totals = Totals(rows=10, failed=failed, requests=requests, prompt_tokens=requests * 5)
    return Sealed(2, Shard(number, number * 10, 10, 0, 9, 0), 0, 0, totals, "step", left_out=left_out)


def figures(sums: StepSums) -> list[tuple[int, ...]]:
    assert sums.figures
    return [(each.rows, each.failed, each.left_out, each.requests) for each in sums.figures]


def test_what_was_passed_over_is_none_of_a_steps_own_rows() -> None:
    sums = StepSums(["a", "b", "c"])
    sums.sealed(0, sealed(0, failed=1, left_out=2))
    assert figures(sums) == [(10, 1, 2, 10), (0, 0, 0, 0), (0, 0, 0, 0)]
    sums.sealed(1, sealed(0, failed=3, left_out=2, requests=7))
    sums.sealed(2, sealed(0, failed=3, left_out=4, requests=5))
    assert figures(sums) == [(10, 1, 2, 10), (7, 2, 0, 7), (5, 0, 2, 5)]
    assert (sums.totals.rows, sums.totals.failed, sums.totals.requests) == (10, 3, 22)
    assert (sums.work.rows, sums.work.failed) == (30, 7)


def test_open_shards_count_as_far_as_they_are() -> None:
    sums = StepSums(["a", "b"])
    sums.sealed(0, sealed(0, failed=4))
    sums.opened(0, 1, Totals(rows=3, requests=3))
    sums.opened(1, 0, Totals(rows=2, failed=2))  # those that were passed over, as far as they were read
    assert figures(sums) == [(13, 4, 0, 13), (0, 0, 0, 0)]
    sums.opened(1, 0, Totals(rows=9, failed=5, requests=5))
    assert figures(sums) == [(13, 4, 0, 13), (5, 1, 0, 5)]
    assert sums.open_rows(1, 0) == 9
    assert sums.open_rows(1, 7) == 0
    sums.sealed(1, sealed(0, failed=5, requests=6))
    assert figures(sums) == [(13, 4, 0, 13), (6, 1, 0, 6)]


def test_a_run_of_one_step_tells_of_none() -> None:
    sums = StepSums([""])
    sums.sealed(0, sealed(0, failed=1))
    assert sums.figures is msgspec.UNSET
    assert (sums.totals, sums.work) == (sums.totals, sums.totals)
