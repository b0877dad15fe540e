"""Servers that fail a few requests in a hundred, whatever is in flight: the run goes on with all that it may have."""

from collections.abc import Callable
from statistics import median

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
    run = place.start("--set", f"workers.concurrency={EACH}")
    until(lambda: witness.stats()["requests"] >= LEARNT, "it is learnt")
    seen: list[int] = []

    def nearly_done() -> bool:
        stats = witness.stats()
        seen.append(stats["in_flight"])
        return bool(stats["requests"] >= ROWS - 100)

    until(nearly_done, "the rows")
    done = run.wait()
    assert done.code == 0, done.err
    assert len(place.lines) == ROWS
    assert median(seen) >= 0.5 * WORKERS * EACH, "a share of random faults was taken for load"
