"""How many requests batches have come to: what was worked on, asked again, and given up."""

from typing import Any

from rowmill.core.amounts import Amount, Spent
from rowmill.core.counts import Counters
from rowmill.store.batch_journal import Try
from rowmill.worker.batch.requests import request_counts


def counted(requests: int, again: int, maybe_billed: int) -> Counters:
    return Counters(requests=requests, retries=again, maybe_billed_twice=maybe_billed)


def attempt(part: int, number: int, requests: int, **members: Any) -> Try:
    t = Try(part, number, 0, 100, requests, requests, 1000, 0, 0, Amount(), 100, 1, creations=1)
    for name, value in members.items():
        setattr(t, name, value)
    return t


def test_batches_under_way_and_refused_ones_are_no_requests() -> None:
    tries = [
        attempt(0, 1, 100, phase="created"),
        attempt(1, 1, 100, phase="ended", status="completed"),
        attempt(2, 1, 100, phase="uploaded", rejections=1),
        attempt(3, 1, 100, phase="collected", status="failed", left=99),
    ]
    assert request_counts(tries) == counted(0, 0, 0)


def test_an_expired_batch_counts_by_what_it_did_and_the_rest_is_not_asked_again_but_first() -> None:
    tries = [
        attempt(0, 2, 40, phase="collected", status="completed"),
        attempt(0, 1, 100, phase="collected", status="expired", left=40, spent=Spent(60)),
    ]
    assert request_counts(tries) == counted(100, 0, 0)


def test_packs_of_an_expired_batch_count_once() -> None:
    t = attempt(0, 1, 10, phase="collected", status="expired", left=40)
    t.rows = 80
    assert request_counts([t]) == counted(5, 0, 0)


def test_what_was_tried_before_is_asked_again() -> None:
    tries = [
        attempt(0, 1, 100, phase="collected", status="completed", left=10),
        attempt(0, 2, 10, phase="collected", status="completed"),
    ]
    assert request_counts(tries) == counted(110, 10, 0)


def test_rows_that_had_no_room_before_are_not_asked_again_but_first() -> None:
    tries = [
        attempt(0, 1, 30, phase="collected", status="completed", left=75, asked_to=30),
        attempt(0, 2, 35, phase="collected", status="completed", left=40, asked_to=60),  # 5 of the first 30 are left
        attempt(0, 3, 40, phase="collected", status="completed"),
    ]
    assert request_counts(tries) == counted(105, 5, 0)


def test_a_retry_counts_anew() -> None:
    tries = [
        attempt(0, 1, 100, phase="collected", status="completed", failed=10),
        attempt(0, 2, 10, phase="collected", status="completed", left=4, counted_from=2),
        attempt(0, 3, 4, phase="collected", status="completed", counted_from=2),
    ]
    assert request_counts(tries) == counted(114, 4, 0)


def test_what_was_given_up_may_be_billed_and_is_asked_again() -> None:
    tries = [
        attempt(0, 1, 100, phase="given_up"),
        attempt(0, 2, 100, phase="collected", status="completed"),
        attempt(1, 1, 50, phase="given_up", creations=0),  # it never was a batch
        attempt(1, 2, 50, phase="collected", status="completed"),
    ]
    assert request_counts(tries) == counted(250, 100, 100)
