"""One budget over several workers: what one does not use the others get, nobody sends on what is over."""

import time
from collections.abc import Callable

import psutil
import pytest

from tests.end_to_end.conftest import Arrival, Place, Server, until
from tests.end_to_end.several import last_session, most_above, per_s, ports_of

pytestmark = pytest.mark.alone

WORKERS = 4
LIFE_S = 3.0  # of a lease


def write_short_rows_last(place: Place, long: int, short: int) -> None:
    """Write rows that fill several shards, one that fills a shard alone, and many short ones for the last shard."""
    place.write_rows(long)
    filler = b'{"id": %d, "text": "row %06d: %b"}\n' % (long, long, b"x" * 33_000)
    rows = range(long + 1, long + 1 + short)
    short_rows = b"".join(b'{"id": %d, "text": "row %06d:"}\n' % (row, row) for row in rows)
    assert len(short_rows) < 32_000, "a shard holds them"
    place.input.write_bytes(place.input.read_bytes() + filler + short_rows)


def test_what_idle_workers_do_not_need_the_last_one_gets(place: Place, server: Callable[..., Server]) -> None:
    limit_per_s = 200.0

    def decide(_: Arrival) -> None:
        time.sleep(0.02)

    witness = server(decide)
    place.configure(witness.url)
    write_short_rows_last(place, 239, 600)
    witness.hold(0)
    started = place.start(
        "--set", f"provider.requests_per_minute={limit_per_s * 60}", "--set", f"workers.count={WORKERS}"
    )
    until(lambda: len(started.workers()) == WORKERS, "all of them at work")
    witness.go_on()
    went_on = time.monotonic()
    done = started.wait()
    assert done.code == 0, done.err
    arrivals = witness.arrivals
    assert len(arrivals) == 840
    last = arrivals[-1].at
    # The last shard's rows alone: a shard is one worker's.
    assert {each.row > 239 for each in arrivals if each.at >= last - 1.5} == {True}, "the others have nothing left"
    # The whole budget to the end, and never more: a burst is a quarter of a second's worth.
    assert per_s(arrivals, last - 1.5, last) >= 0.93 * limit_per_s
    assert per_s(arrivals, went_on, last) >= 0.9 * limit_per_s
    assert most_above(arrivals, limit_per_s) <= limit_per_s / 4 + 12


def test_a_worker_that_was_stopped_past_its_lease_sends_nothing_until_it_has_a_new_one(
    place: Place, server: Callable[..., Server]
) -> None:
    limit_per_s = 120.0

    def decide(_: Arrival) -> None:
        time.sleep(0.02)

    witness = server(decide)
    arrivals = witness.arrivals
    place.configure(witness.url)
    place.write_rows(860)
    started = place.start("--set", f"provider.requests_per_minute={limit_per_s * 60}")
    until(lambda: len(arrivals) >= 120 and len(started.workers()) == 2, "both to be at work")
    stopped, other = started.workers()
    supervisor = psutil.Process(started.pid)

    def sent_by(worker: psutil.Process, since: float) -> list[Arrival]:
        ports = ports_of(worker)
        return [each for each in list(arrivals) if each.at >= since and each.port in ports]

    stopped.suspend()
    stopped_at = time.monotonic()

    def lent() -> bool:
        """Tell whether the old lease is over, and the other one has had the whole rate for the last second.

        In less its own half would do, together with a burst of a quarter of a second's worth.
        """
        now = time.monotonic()
        return now - stopped_at >= LIFE_S and len(sent_by(other, now - 1.0)) >= 0.9 * limit_per_s

    until(lent, "its part to be lent", 8.0)
    lent_at = time.monotonic()
    assert lent_at - 0.5 - stopped_at <= LIFE_S + 2.0, "and a refresh, and half a second of it"
    # With the supervisor stopped too there is no new lease: whatever the worker sends it sends on the old one.
    supervisor.suspend()
    stopped.resume()
    go_at = time.monotonic()
    until(lambda: time.monotonic() >= go_at + 0.7, "a while", 5.0)
    stale = sent_by(stopped, go_at)
    supervisor.resume()
    assert stale == []
    until(lambda: sent_by(stopped, go_at), "a new lease", 5.0)
    done = started.wait()
    assert done.code == 0, done.err
    assert last_session(place)["deaths"] == 0
    assert [line["index"] for line in place.lines if line["output"]] == list(range(860))
    assert most_above(arrivals, limit_per_s) <= limit_per_s / 4 + 12
