"""What there is to say of batches."""

from typing import Any

import msgspec
import pytest

from rowmill.core.counts import BatchView
from rowmill.interface.ui import batches
from tests.interface.ui.snapshots import BATCHES, BATCHING, BUSY


def one(status: str, **change: Any) -> BatchView:
    return msgspec.structs.replace(BatchView(3, 1, "batch_3", status, 1000, 10, 0), **change)


def test_batches_are_counted_by_status_in_the_order_of_their_way() -> None:
    assert batches.parts_done(BATCHING) == "batches 3 of 7 parts done"
    assert batches.by_status(BATCHES) == ["validating 1", "in progress 2 (61%)", "collecting 1"]
    assert batches.by_status(tuple(reversed(BATCHES))) == batches.by_status(BATCHES)
    assert batches.by_status([one("hurrying"), one("building"), one("finalizing")]) == [
        "building 1",
        "finalizing 1",
        "hurrying 1",
    ]


def test_requests_are_told_as_the_provider_counts_them() -> None:
    assert batches.requests(BATCHING) == ["requests 92,734/170,000 completed, 12 failed"]
    healthy = msgspec.structs.replace(BATCHING, batches=(one("in_progress"),))
    assert batches.requests(healthy) == ["requests 10/1,000 completed"]
    assert batches.requests(msgspec.structs.replace(BATCHING, batches=())) == []


@pytest.mark.parametrize(
    ("change", "share"),
    [
        ({"requests": 0, "completed": 0}, ""),
        ({"completed": 999, "failed": 0}, " (99%)"),
        ({"completed": 990, "failed": 10}, " (100%)"),
        ({"completed": 5000}, " (100%)"),
        ({"completed": -1}, " (0%)"),
    ],
)
def test_whatever_a_provider_counts_makes_a_share(change: dict[str, int], share: str) -> None:
    assert batches.by_status([one("in_progress", **change)]) == [f"in progress 1{share}"]


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("in_progress", "in progress"),
        ("\x1b[2Jgo\n", "[2Jgo"),
        ("x" * 99, "x" * 13 + "..."),
        ("", "unknown"),
        ("\n", "unknown"),
    ],
)
def test_a_status_is_the_servers_own_word_and_cannot_steer_the_terminal(sent: str, shown: str) -> None:
    assert batches.status(one(sent)) == shown
    assert batches.columns(one(sent))[2] == shown


def test_a_provider_with_many_words_of_its_own_does_not_fill_the_line() -> None:
    texts = batches.by_status([one(f"word {place}") for place in range(50)])
    assert len(texts) == 6
    assert texts[-1] == "other 45"


def test_the_time_left_is_told_only_while_nothing_is_waited_for() -> None:
    timed = msgspec.structs.replace(BATCHING, eta_s=38.0)
    assert not batches.has_eta(timed)
    assert batches.has_eta(msgspec.structs.replace(timed, batches=(one("collecting"),)))
    assert not batches.has_eta(msgspec.structs.replace(BATCHING, batches=(one("collecting"),)))


def test_a_run_of_the_live_api_uses_no_batches() -> None:
    assert batches.in_use(BATCHING)
    assert not batches.in_use(BUSY)


@pytest.mark.parametrize(
    ("left", "lines"),
    [
        ([], []),
        ([one("building", batch=""), one("waiting", batch="")], []),
        (
            [*BATCHES[:3], one("uploading", batch="")],
            ["3 go on at the provider", "run the same command again to pick them up, or rowmill cancel"],
        ),
        (
            BATCHES,
            [
                "3 go on at the provider, 1 is over there and not collected",
                "run the same command again to pick them up, or rowmill cancel",
            ],
        ),
        (
            [one("expired"), one("completed")],
            ["2 are over there and not collected", "run the same command again to pick them up"],
        ),
        (
            [one("in_progress")],
            ["1 goes on at the provider", "run the same command again to pick it up, or rowmill cancel"],
        ),
    ],
    ids=["none", "not created", "three", "four", "over", "one"],
)
def test_a_stop_says_what_goes_on_without_it(left: list[BatchView], lines: list[str]) -> None:
    assert batches.left_behind(left) == lines
