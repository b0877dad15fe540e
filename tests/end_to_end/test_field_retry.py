"""`rowmill retry` in the middle of a run, and what a run says of itself at its end."""

import signal
from collections.abc import Callable

from tests.end_to_end.conftest import Arrival, Place, Server, until
from tests.end_to_end.several import Answer

BAD = (3, 70, 130)  # in three shards
ROWS = 300


def test_failed_rows_alone_are_asked_again_also_where_others_were_never_asked(
    place: Place, server: Callable[..., Server], reference: Callable[[int], bytes]
) -> None:
    healed: set[int] = set()
    credit = 150

    def decide(arrival: Arrival) -> Answer | None:
        if arrival.row in BAD and arrival.row not in healed:
            return 400, {}, b'{"error":{"message":"no","param":"messages"}}'
        return None if arrival.row < credit else (402, {}, b"")

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(ROWS)
    assert place.run("--set", "workers.count=1").code == 4, "the credit is used up"
    recorded = place.recorded()
    assert set(BAD) <= recorded
    assert len(recorded) < ROWS
    before = witness.counts.copy()

    healed.update(BAD[:1])
    done = place.retry()
    assert done.code == 1, done.err
    assert {row: n - before[row] for row, n in witness.counts.items() if n > before[row]} == dict.fromkeys(BAD, 1)
    assert place.recorded() == recorded
    assert (place.report["totals"]["failed"], place.report["totals"]["rows"]) == (2, len(recorded))
    assert not place.output.exists()

    healed.update(BAD)
    done = place.retry()
    assert done.code == 0, done.err
    asked = {row: n - before[row] for row, n in witness.counts.items() if n > before[row]}
    assert asked == {BAD[0]: 1, BAD[1]: 2, BAD[2]: 2}
    assert "rowmill run" in done.lines[-1]

    credit = ROWS
    assert place.run().code == 0
    assert place.output.read_bytes() == reference(ROWS)
    assert all(
        witness.counts[row] - before[row] == (1 if row not in recorded else asked.get(row, 0)) for row in range(ROWS)
    )


def test_a_second_interrupt_reports_no_worker_as_dead(place: Place, server: Callable[..., Server]) -> None:
    ending: list[bool] = []

    def hold(_: Arrival) -> None:
        until(lambda: bool(ending), "the end of the test")

    witness = server(hold)
    place.configure(witness.url)
    place.write_rows(50)
    started = place.start()
    until(lambda: witness.arrivals, "requests")
    started.signal(signal.SIGINT)
    until(lambda: "once more to stop at once" in place.log, "the first one heard")
    started.signal(signal.SIGINT)
    done = started.wait()
    ending.append(True)
    assert done.code == 130
    assert " died" not in done.err
    session = place.report["sessions"][-1]
    assert session["deaths"] == 0
    assert session["billed_twice_max"] >= 1, "what was in flight may have been done"
