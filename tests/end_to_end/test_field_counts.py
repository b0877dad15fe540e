"""What the report says after kills agrees with what a server counted, over real sockets and real signals."""

import json
import signal
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from rowmill.core.errors import ExitCode
from tests.end_to_end.conftest import Place, Witness, until

SLOTS = 16
WORKERS = 2
FAULTS = {"503": 0.03, "429-ms": 0.03, "500": 0.02, "reset": 0.01}
SETTINGS = (f"--set=workers.count={WORKERS}", f"--set=workers.concurrency={SLOTS}")


def of_all(sessions: list[dict[str, Any]], counter: str) -> int:
    return sum(session["counters"][counter] for session in sessions)


def agrees(place: Place, witness: Witness, kills: int) -> list[dict[str, Any]]:
    """Hold the report's sums against what the server has counted; returns its sessions."""
    until(lambda: witness.stats()["in_flight"] == 0, "the end of what was given up")
    stats, report = witness.stats(), place.report
    sessions: list[dict[str, Any]] = report["sessions"]
    # At least what came; a request that was counted and had not left yet when its process was killed may be more.
    for figure in (report["cost"]["requests"], of_all(sessions, "requests")):
        assert stats["requests"] <= figure <= stats["requests"] + kills * SLOTS * WORKERS
    assert sum(session["billed_twice_max"] for session in sessions) >= stats["repeated_after_success"]
    tokens, lost = report["cost"]["tokens"], report["cost"]["lost"]
    billed = stats["prompt_tokens"] + stats["completion_tokens"]
    assert tokens <= billed
    assert billed <= 1.02 * (tokens + lost["prompt_tokens"] + lost["completion_tokens"])
    assert report["totals"]["requests"] <= stats["requests"]
    return sessions


def test_the_report_counts_what_killed_sessions_and_workers_have_sent(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    rows = 500
    random = Random(1)
    witness = simulator(latency_ms=60, faults=FAULTS, seed=3)
    place.configure(witness.url)
    place.write_rows(rows)
    killed = 0
    for share in (0.02, 0.3):  # at first before anything but the boards can tell of it
        witness.hold(int(share * rows))
        started = place.start(*SETTINGS)
        until(lambda: witness.stats()["requests"] > share * rows, "requests")  # noqa: B023 - used at once
        if share > 0.1:
            random.choice(started.workers()).send_signal(signal.SIGKILL)
            before = witness.stats()["requests"]
            witness.hold(before + SLOTS)
            until(lambda: witness.stats()["requests"] > before + SLOTS, "requests after it")  # noqa: B023
            killed += 1
            # The supervisor alone: its workers go on for a while, and count.
            started.process.send_signal(signal.SIGKILL)
            started.process.wait()
        else:
            started.kill_all()
        killed += 1
    witness.go_on()
    done = place.run(*SETTINGS)
    assert done.code == 0, done.err
    assert [line["index"] for line in place.lines] == list(range(rows))
    sessions = agrees(place, witness, killed)
    assert [session["exit_code"] for session in sessions] == [137, 137, 0]
    assert {session["stopped_by"] for session in sessions[:2]} == {"killed, or its machine failed"}
    assert len({session["id"] for session in sessions}) == len(sessions)
    # What was on the disk, and not yet known to be when its worker was killed, no session has.
    assert rows - killed * 2 * SLOTS * WORKERS <= sum(session["rows"] for session in sessions) <= rows
    faults: Counter[str] = Counter()
    for session in sessions:
        faults.update(session["counters"]["faults"])
    seen = witness.stats()["by_fault"]
    for name, fault in (("overloaded", "503"), ("rate_limited", "429-ms"), ("server_error", "500")):
        assert seen[fault] - killed * SLOTS * WORKERS <= faults[name] <= seen[fault]
    assert not list((place.run_dir / "boards").iterdir())


def test_a_run_killed_before_its_report_tells_it_when_it_is_run_again(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    witness = simulator(latency_ms=20)
    place.configure(witness.url)
    place.write_rows(200)
    witness.hold(60)
    started = place.start(*SETTINGS)
    until(lambda: witness.stats()["requests"] > 60, "requests")
    started.signal(signal.SIGINT)
    until(lambda: "SIGINT" in place.log, "the signal heard")
    witness.go_on()
    assert started.wait().code == 130
    old = (place.run_dir / "report.json").read_bytes()
    assert place.run(*SETTINGS).code == 0
    told = place.report
    (place.run_dir / "report.json").write_bytes(old)  # as a kill leaves it between the output and the report
    spending = json.loads((place.run_dir / "spending.json").read_bytes())
    assert spending["session"]["id"] == told["sessions"][-1]["id"]
    before = witness.stats()["requests"]
    assert place.run(*SETTINGS).code == 0
    assert witness.stats()["requests"] == before, "all of it was there"
    report = place.report
    assert report["finished"]
    assert report["totals"] == told["totals"]
    assert [session["id"] for session in report["sessions"][:2]] == [session["id"] for session in told["sessions"]]
    agrees(place, witness, 0)


def test_a_cap_holds_over_a_kill_and_what_was_sent_is_counted_against_it(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    witness = simulator(latency_ms=40, faults=FAULTS, seed=5)
    place.configure(witness.url)
    place.write_rows(400)
    capped = (*SETTINGS, "--set=budget.max_requests=200")
    witness.hold(60)
    started = place.start(*capped)
    until(lambda: witness.stats()["requests"] > 60, "requests")
    started.kill_all()
    witness.go_on()
    assert place.run(*capped).code == ExitCode.BUDGET
    assert witness.stats()["requests"] <= 200
    agrees(place, witness, 1)
