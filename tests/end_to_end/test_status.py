"""`rowmill status`: where a run stands, seen from another process while it is at work, and after."""

import json
import signal
from collections.abc import Callable

import pytest

from tests.end_to_end.conftest import Done, Place, Witness, until
from tests.end_to_end.several import heard


def told(place: Place, *arguments: str) -> Done:
    return place.start(*arguments, command="status").wait(20)


def test_another_terminal_sees_what_the_run_sees(place: Place, simulator: Callable[..., Witness]) -> None:
    witness = simulator(latency_ms=20)
    place.configure(witness.url)
    slow, fast = (["--set", f"provider.requests_per_minute={rate}"] for rate in (600, 12_000))
    place.write_rows(300)
    before = told(place)
    assert (before.code, "holds no run" in before.err) == (5, True), before.err
    started = place.start(*slow)  # at work for longer than anybody takes to look
    seen: list[str] = []

    def slowed() -> bool:
        seen.append(told(place).out)
        return "slowed by the rate of main: 600 requests a minute" in seen[-1]

    until(slowed, "the limit to be what slows it down")
    first, second = seen[-1].splitlines()[:2]
    assert f"at work: process {started.process.pid} on " in first
    assert second.startswith("  rows ")
    shown = json.loads(told(place, "--json").out)
    assert shown["supervisor"]["pid"] == started.process.pid
    assert 0 < shown["status"]["snapshot"]["totals"]["rows"] < 300
    started.signal(signal.SIGKILL)
    started.wait()
    killed = told(place).out
    assert ": stopped" in killed
    assert "rowmill run config.toml goes on with it" in killed
    witness.hold(0)  # until somebody watches
    watched = place.start(*fast)
    until(lambda: "at work" in told(place).out, "the run to go on")
    watching = place.start("--watch", command="status")
    heard(watching, "rows ")
    witness.go_on()
    end = watching.wait()
    assert watched.wait().code == 0
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
