"""`rowmill status`: where a run stands, seen from another process while it is at work, and after."""

import json
import signal
from collections.abc import Callable

import pytest

from tests.end_to_end.conftest import Done, Place, Witness, until


def told(place: Place, *arguments: str) -> Done:
    return place.start(*arguments, command="status").wait(20)


def test_another_terminal_sees_what_the_run_sees(place: Place, simulator: Callable[..., Witness]) -> None:
    witness = simulator(latency_ms=20)
    place.configure(witness.url)
    limited = ["--set", "provider.requests_per_minute=6000"]
    place.write_rows(300)
    before = told(place)
    assert (before.code, "holds no run" in before.err) == (5, True), before.err
    started = place.start(*limited)
    seen: list[str] = []

    def slowed() -> bool:
        seen.append(told(place).out)
        return "slowed by the rate of main: 6,000 requests a minute" in seen[-1]

    until(slowed, "the limit to be what slows it down")
    first, second = seen[-1].splitlines()[:2]
    assert f"at work: process {started.process.pid} on " in first
    assert second.startswith("  rows ")
    shown = json.loads(told(place, "--json").out)
    assert shown["supervisor"]["pid"] == started.process.pid
    assert 0 < shown["status"]["snapshot"]["totals"]["rows"] < 300
    started.signal(signal.SIGKILL)
    started.wait(10)
    killed = told(place).out
    assert ": stopped" in killed
    assert "rowmill run config.toml goes on with it" in killed
    watched = place.start(*limited)
    until(lambda: "at work" in told(place).out, "the run to go on")
    end = told(place, "--watch")
    assert watched.wait(20).code == 0
    assert "slowed by the rate of main" in end.err or "rows " in end.err
    assert end.out.splitlines()[0].endswith(": finished")
    assert "300 of 300, 0 failed" in end.out


@pytest.mark.parametrize("content", [b"", b"{", b'{"at":1}', b"[" * 100_000])
def test_a_damaged_status_tells_nothing_and_breaks_nothing(
    place: Place, simulator: Callable[..., Witness], content: bytes
) -> None:
    place.configure(simulator().url)
    place.write_rows(5)
    assert place.run().code == 0
    (place.run_dir / "status.json").write_bytes(content)
    (place.run_dir / "series.jsonl").write_bytes(content)
    found = told(place)
    assert (found.code, found.err) == (0, "")
    assert "5 of 5, 0 failed" in found.out
