"""Servers that fail a few requests in a hundred, whatever is in flight: the run goes on with all that it may have."""

from collections.abc import Callable

from tests.end_to_end.conftest import Place, Witness, until

WORKERS, EACH = 2, 16
LEARNT = 1200  # requests, by which it is known that fewer in flight lose as many
ROWS = 1500


def test_503s_and_resets_at_random_do_not_lower_what_is_in_flight(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    witness = simulator(latency_ms=60, faults={"503": 0.05, "reset": 0.04})
    place.configure(witness.url)
    place.write_rows(ROWS)
    witness.hold(LEARNT)
    run = place.start("--set", f"workers.concurrency={EACH}")
    until(lambda: witness.stats()["requests"] > LEARNT, "it is learnt")
    # None of these is answered: as many are there soon as may be.
    until(
        lambda: witness.stats()["in_flight"] >= 0.5 * WORKERS * EACH, "a share of random faults was taken for load", 4
    )
    witness.go_on()
    done = run.wait()
    assert done.code == 0, done.err
    assert len(place.lines) == ROWS
