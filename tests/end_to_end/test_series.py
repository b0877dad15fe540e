"""The time series of a run: what the server has seen, second by second, over a kill and a resume."""

import signal
from collections.abc import Callable

from rowmill.core.histograms import Distributions, least_of
from rowmill.store.series import read
from tests.end_to_end.conftest import Place, Witness, until


def test_the_seconds_add_up_to_what_the_server_has_seen_and_a_kill_costs_the_last_one(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    witness = simulator(latency_ms=50, faults={"500": 0.05})
    place.configure(witness.url)
    place.write_rows(300)
    path = place.run_dir / "series.jsonl"
    witness.hold(150)
    started = place.start("--set", "workers.concurrency=4")
    until(lambda: sum(each.rows for each in read(path)) > 50, "seconds that are written down")
    started.signal(signal.SIGKILL)
    witness.go_on()
    started.wait()
    before = read(path)
    assert place.run().code == 0
    moments = read(path)
    assert moments[: len(before)] == before
    first, then = (
        [each for each in moments if each.session == session] for session in dict.fromkeys(m.session for m in moments)
    )
    done = sum(each.rows for each in then)
    # What the killed session did in its last second is in the run, and not in its series.
    assert 300 - sum(each.rows for each in first) - done >= 0
    assert place.report["sessions"][-1]["counters"]["rows"] == done
    assert sum(each.requests for each in then) == place.report["sessions"][-1]["counters"]["requests"]
    assert sum(each.requests for each in moments) <= witness.stats()["requests"]
    spread = Distributions.total(each.spread for each in then)
    assert sum(spread.latency_ms.values()) == sum(each.providers["main"].answered for each in then)
    assert sum(spread.slot_wait_ms.values()) >= done
    assert least_of(min(spread.latency_ms)) >= 10
    assert sum(each.faults.get("server_error", 0) for each in then) > 0
