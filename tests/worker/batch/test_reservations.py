"""What the budget has left for batches: by what they have cost, by what they may cost, and by what was given up."""

from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from rowmill.core.amounts import Amount, Price, Spent
from rowmill.store.batch_journal import BatchJournal, Try
from rowmill.worker.batch.reservations import BatchReservations

PRICE = Price(input=2.0, output=8.0, cached_input=0.5)  # of batches: half of that


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[BatchJournal]:
    journal = BatchJournal.open(tmp_path / "batches" / "journal", "run-1")
    yield journal
    journal.close()


def built(journal: BatchJournal, part: int, reserved: Amount, *, requests: int = 10, tokens: int = 1000) -> Try:
    t = Try(
        part=part, number=1, first_row=part * 10, end_row=part * 10 + 10, requests=requests, rows=requests, size=1,
        crc=0, tokens=tokens, reserved=reserved, asked_to=100, counted_from=1, since=1.0,
    )  # fmt: skip
    return journal.built(t)


def sent(journal: BatchJournal, t: Try) -> Try:
    journal.uploading(t, 2.0)
    journal.uploaded(t, "file", 3.0)
    journal.creating(t, 4.0)
    journal.created(t, "batch", 5.0, 5.0)
    return t


def collected(journal: BatchJournal, t: Try, spent: Spent, wasted: Spent | None = None) -> Try:
    sent(journal, t)
    journal.ended(t, "completed", "output", None, 6.0)
    journal.collected(t, spent, wasted or Spent(), spent.requests, 0, 0, 7.0)
    return t


def test_without_a_budget_there_is_room_for_anything(journal: BatchJournal) -> None:
    assert BatchReservations(journal, None, None, 0).room() == Amount(inf, inf, inf)


def test_what_is_under_way_counts_as_reserved_and_what_is_collected_as_it_cost(journal: BatchJournal) -> None:
    reservations = BatchReservations(journal, Amount(100, 10_000, 1.0), PRICE, 0)
    first = built(journal, 0, Amount(10, 2000, 0.25))
    built(journal, 1, Amount(10, 2000, 0.25))
    assert reservations.room() == Amount(80, 6000, 0.5)
    collected(journal, first, Spent(9, 40_000, 10_000, 5_000), Spent(1, 100, 0, 10))
    usd = (30_000 * 2.0 + 10_000 * 0.5 + 5_000 * 8.0) / 1e6 / 2
    assert reservations.reserved == Amount(10, 2000, 0.25)
    assert reservations.spent == Spent(9, 40_000, 10_000, 5_000)
    assert reservations.wasted == Spent(1, 100, 0, 10)
    room = reservations.room()
    assert (room.requests, room.tokens) == (81, 10_000 - 2000 - 45_000)
    assert room.usd == pytest.approx(1.0 - 0.25 - usd)


def test_what_was_given_up_with_a_batch_may_be_billed_and_without_one_is_not(journal: BatchJournal) -> None:
    reservations = BatchReservations(journal, Amount(100, inf, inf), None, 0)
    journal.given_up(sent(journal, built(journal, 0, Amount(10, 0, 0))), "stuck", 9.0)
    journal.given_up(built(journal, 1, Amount(10, 0, 0)), "its file is gone", 9.0)
    refused = sent(journal, built(journal, 2, Amount(10, 0, 0)))
    journal.rejected(refused, "token_limit_exceeded", 9.0)
    journal.given_up(refused, "token_limit_exceeded", 9.0)
    assert reservations.reserved.requests == 0
    assert reservations.doubtful.requests == 10
    assert reservations.room().requests == 90


def test_before_there_are_results_a_reply_is_taken_to_be_long(journal: BatchJournal) -> None:
    estimate = BatchReservations(journal, None, PRICE, 300).estimator()(1000)
    assert (estimate.requests, estimate.tokens) == (1, 1300)
    assert estimate.usd == pytest.approx((1000 * 2 + 300 * 8) / 1e6 / 2)
    assert BatchReservations(journal, None, PRICE, 0).estimator()(1000).tokens == 1000 + 1024
    assert BatchReservations(journal, None, None, 300).estimator()(1000).usd == 0.0


def test_a_few_results_tell_nothing_yet(journal: BatchJournal) -> None:
    collected(journal, built(journal, 0, Amount(), requests=7, tokens=700), Spent(7, 1400, 0, 70))
    assert BatchReservations(journal, None, PRICE, 300).estimator()(100).tokens == 400


def test_results_tell_what_prompts_and_replies_have(journal: BatchJournal) -> None:
    collected(journal, built(journal, 0, Amount(), requests=10, tokens=1000), Spent(8, 1600, 400, 60))
    estimate = BatchReservations(journal, None, PRICE, 300).estimator()(100)
    # Eight of ten were answered: what was guessed of them is 800 tokens, and they had twice that.
    assert estimate.tokens == pytest.approx(200 + 7.5)
    assert estimate.usd == pytest.approx((150 * 2 + 50 * 0.5 + 7.5 * 8) / 1e6 / 2, rel=1e-5)


def test_the_price_of_many_small_requests_is_not_lost_in_rounding(journal: BatchJournal) -> None:
    collected(journal, built(journal, 0, Amount(), requests=10, tokens=100), Spent(10, 104, 0, 4))
    estimate = BatchReservations(journal, None, PRICE, 0).estimator()
    usd = sum(estimate(10).usd for _ in range(1000))
    assert usd == pytest.approx((10.4 * 2 + 0.4 * 8) * 1000 / 1e6 / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("left", "need", "words"),
    [
        (Amount(inf, inf, 0.25), Amount(1, 50, 0.5), ["budget.max_usd", "0.25 is left", "needs 0.5"]),
        (Amount(5, 40, inf), Amount(1, 50, 0.5), ["budget.max_tokens", "40 is left", "needs 50"]),
        (Amount(0, 400, inf), Amount(1, 50, 0.5), ["budget.max_requests", "0 is left", "needs 1"]),
        (Amount(-3, 400, inf), Amount(1, 50, 0.5), ["budget.max_requests", "0 is left", "needs 1"]),
        (Amount(inf, 400, inf), Amount(1, 50, 0.5), ["budget.max_tokens", "400 is left, which is too little"]),
    ],
)
def test_a_refusal_names_what_is_scarce(journal: BatchJournal, left: Amount, need: Amount, words: list[str]) -> None:
    reservations = BatchReservations(journal, left, PRICE, 0)
    assert all(
        word in reservations.refusal(need) for word in [*words, "; that is below what one request costs; raise it"]
    )
    built(journal, 0, Amount())
    assert all(word in reservations.refusal(need) for word in words)
    assert "below" not in reservations.refusal(need)
