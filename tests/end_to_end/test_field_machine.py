"""The machine under a run: streams that take nothing, defects, files that go away, processes that are stopped."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from rowmill.core.errors import ExitCode
from tests.end_to_end.conftest import Arrival, Place, Server, Witness, until
from tests.lives import WHOLE

_ROWS = 60
_SHELL = f"{sys.executable} -m rowmill"


def shell(place: Place, command: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run a command line in which ROWMILL is the command; its last word of stderr is what a `; echo $?` says."""
    return subprocess.run(
        ["bash", "-c", command.replace("ROWMILL", _SHELL)],
        cwd=place.folder,
        env={**place.environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def in_a_group(place: Place, words: list[str], **how: Any) -> "Iterator[subprocess.Popen[str]]":
    """Start a command as the first of a process group; what is left of the group at the end is killed."""
    process = subprocess.Popen(words, cwd=place.folder, env=place.environ, stderr=subprocess.PIPE, text=True, **how)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def removed(path: Path) -> bool:
    """Remove a directory into which others still write; returns whether it is gone."""
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


@pytest.fixture
def ready(place: Place, simulator: Callable[..., Witness]) -> Place:
    place.configure(simulator(latency_ms=1).url)
    place.write_rows(_ROWS)
    return place


@pytest.mark.parametrize(
    "command",
    [
        "ROWMILL run --json >&- 2>&- <&-; echo $? > code",
        "{ ROWMILL run --json 2>&1; echo $? > code; } | head -c 0",
        "ROWMILL run --json > /dev/full 2> /dev/full; echo $? > code",
    ],
)
def test_streams_that_take_nothing_change_no_exit_code(
    ready: Place, reference: Callable[[int], bytes], command: str
) -> None:
    done = shell(ready, command)
    assert "Traceback" not in done.stdout + done.stderr
    assert (ready.folder / "code").read_text() == "0\n"
    assert ready.output.read_bytes() == reference(_ROWS)
    assert ready.log.splitlines()[-1].endswith("ended with exit code 0")  # nobody else wrote into our files


def test_words_that_the_terminals_encoding_lacks_are_shown_all_the_same(ready: Place) -> None:
    asked = ["--set", "'task.prompt=\"µ→{text}\"'"]
    ascii_ = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = shell(
        ready, f"ROWMILL plan {' '.join(asked)}; ROWMILL plan --json {' '.join(asked)} | tail -c 100000", **ascii_
    )
    assert "\\xb5\\u2192" in done.stdout
    assert "Traceback" not in done.stderr
    assert "µ→" in json.loads(done.stdout[done.stdout.index("\n{") :])["request"]["body"]
    for command, code in (("plan --json > /dev/full", 6), ("--help > /dev/full", 0), ("plan | head -c 0", 0)):
        done = shell(ready, f"ROWMILL {command}")
        assert (done.returncode, "Traceback" in done.stderr, "Exception" in done.stderr) == (code, False, False)


def test_what_nobody_takes_of_help_and_usage_changes_no_exit_code_buffered_or_not(place: Place) -> None:
    """Some versions of argparse pass over what a stream does not take, others raise it where nothing is buffered."""
    asked = [
        ("--help > /dev/full", 0, "stdout cannot be written to: No space left on device"),
        ("run --help | head -c 0", 0, ""),
        ("--version >&-", 0, ""),
        ("run --xyzzy 2> /dev/full", 2, ""),
        ("run --xyzzy 2>&-", 2, ""),
    ]
    command = "set -o pipefail; " + "; ".join(f"ROWMILL {line}; echo $? >> code" for line, _, _ in asked)
    for unbuffered in ("", "1"):
        done = shell(place, command, PYTHONUNBUFFERED=unbuffered)
        codes = place.folder / "code"
        assert codes.read_text().split() == [str(code) for _, code, _ in asked]
        codes.unlink()
        assert done.stderr.splitlines() == [f"rowmill: {told}" for _, _, told in asked if told]


def test_a_defect_is_one_line_and_exit_code_70_wherever_it_is(ready: Place) -> None:
    program = (
        "import sys; from rowmill.runs import preparation, cancel; from rowmill.supervisor.loop import Supervisor\n"
        "def broken(*_, **__): raise KeyError('of the\\ntest')\n"
        "where = sys.argv.pop(1)\n"
        "if where == 'loop': Supervisor._assign = broken\n"
        "else: preparation.checked_tasks = broken; cancel.delivery_of = broken\n"
        "from rowmill.interface.cli import main; main(sys.argv[1:])\n"
    )
    for where, command in (("start", "cancel"), ("loop", "run")):
        done = subprocess.run(
            [sys.executable, "-c", program, where, command],
            cwd=ready.folder,
            env={**ready.environ, "TMPDIR": str(ready.folder)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == ExitCode.DEFECT, done.stderr
        assert "Traceback" not in done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith(("rowmill: ", "Stopped: "))]
        assert "a defect of Rowmill: KeyError: 'of the\\ntest'; the traceback is in " in line
        kept = Path(ready.folder, line.partition("traceback is in ")[2].partition(":")[0])
        assert kept.read_text().count("Traceback (most recent call last)") == 1
    assert kept == ready.run_dir / "run.log"


def test_a_worker_that_a_defect_ends_says_so_in_one_line(ready: Place) -> None:
    (ready.folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Spoil:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'rowmill.worker.live.feeder':\n"
        "            import rowmill.worker.live.backlog as module\n"
        "            def broken(*_, **__): raise ZeroDivisionError('of the test')\n"
        "            module.Backlog.look_ahead = broken\n"
        "sys.meta_path.insert(0, Spoil())\n"
    )
    ready.environ["PYTHONPATH"] += os.pathsep + str(ready.folder)
    done = ready.run("--set", "workers.count=1", "--set", "workers.concurrency=1", "--set", "provider.timeout_s=4")
    assert "Traceback" not in done.err
    if done.code:  # all rows may have been done before the first heartbeat
        assert done.code == ExitCode.DEFECT
        assert "ZeroDivisionError: of the test; the traceback is in " in done.err


def test_a_configuration_that_can_be_read_once_is_read_once(ready: Place, reference: Callable[[int], bytes]) -> None:
    """As from a pipe; and one that is removed or half saved meanwhile changes no run."""
    done = shell(ready, "ROWMILL run <(cat config.toml); echo $? >&2")
    assert done.stderr.splitlines()[-1] == "0", done.stderr
    assert any(line.startswith("Done: ") for line in done.stderr.splitlines())
    assert ready.output.read_bytes() == reference(_ROWS)


AWAY = [("run", True), ("run/checkpoints", False), ("part", True)]


@pytest.mark.parametrize(("what", "moved"), [*AWAY, ("run", False)] if WHOLE else AWAY)
def test_what_goes_away_in_mid_run_ends_it_with_one_line_and_loses_nothing_that_is_there(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes], what: str, moved: bool
) -> None:
    witness = simulator(latency_ms=15)
    place.configure(witness.url)
    place.write_rows(150)
    path = place.folder / (".out.jsonl.rowmill-part" if what == "part" else what.replace("run", "out.jsonl.run"))
    witness.hold(60)
    started = place.start("--set", "workers.count=1", "--set", "workers.concurrency=8")
    until(lambda: len(place.recorded()) > 30, "some rows")
    aside = place.folder / "aside"
    if moved:
        path.rename(aside)
    elif path.is_dir():
        until(lambda: removed(path), "gone")
    else:
        path.unlink()
    witness.go_on()
    done = started.wait()
    assert done.code == ExitCode.MACHINE, done.err
    assert "Traceback" not in done.err
    assert len([line for line in done.lines if line.startswith("Stopped: ")]) == 1
    assert "and run the same command again" in done.err
    assert not place.output.exists()
    if moved and what != "part":
        if path.exists():
            shutil.rmtree(path)
        aside.rename(path)
    done = place.run()
    assert done.code == 0, done.err
    assert place.output.read_bytes() == reference(150)
    if moved or what == "part":
        assert witness.stats()["requests"] < 150 + 50  # what was recorded was not asked for again


def test_a_group_that_is_stopped_and_goes_on_loses_nobody_and_pays_nothing_twice(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    """With the time after which a worker is silent shortened to what a test can wait for."""
    witness = simulator(latency_ms=15)
    place.configure(witness.url)
    place.write_rows(200)
    (place.folder / "short.py").write_text(
        "import sys; from rowmill.supervisor import loop, pool; pool._SILENT_S = 2.0; loop._ASLEEP_S = 1.5\n"
        "from rowmill.interface.cli import main; main(sys.argv[1:])\n"
    )
    words = [sys.executable, "short.py", "run", "--set", "workers.concurrency=4", "--set", "provider.timeout_s=60"]
    witness.hold(40)
    with in_a_group(place, words, start_new_session=True) as process:
        until(lambda: len(place.recorded()) > 20, "some rows")
        os.killpg(process.pid, signal.SIGSTOP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2.4)  # longer than either
        witness.go_on()
        os.killpg(process.pid, signal.SIGCONT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert re.search(r"asleep for [2-9] s; going on", said)
    assert "silent" not in said
    assert "died" not in said
    assert place.output.read_bytes() == reference(200)
    assert (witness.stats()["requests"], place.report["sessions"][0]["deaths"]) == (200, 0)


def has_heard(process: psutil.Process) -> bool:
    """Tell whether no signal waits for a process, and it for everything: what one has asked of it is done."""
    fields = dict(line.split(":\t", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    return fields["State"].startswith("S") and not any(int(fields[name], 16) for name in ("SigPnd", "ShdPnd"))


def test_what_is_on_its_way_at_a_ctrl_z_is_brought_home_however_long_the_stop(
    place: Place, server: Callable[..., Server], reference: Callable[[int], bytes]
) -> None:
    """The supervisor stops, its workers do not: they send nothing more, and take what comes until the request's end."""
    hold = threading.Event()

    def decide(arrival: Arrival) -> None:
        if arrival.row >= 8:
            hold.wait(10)

    asked = server(decide)
    place.configure(asked.url)
    place.write_rows(40)
    options = ("workers.count=1", "workers.concurrency=8", "provider.timeout_s=3", "retry.floor_per_s=100")
    words = [sys.executable, "-m", "rowmill", "run", *(word for option in options for word in ("--set", option))]
    # A process group in this session, as a shell makes it: the kernel stops no group that nobody could wake.
    with in_a_group(place, words, process_group=0) as process:
        until(lambda: len(asked.arrivals) >= 8 + 8, "requests on their way")
        os.killpg(process.pid, signal.SIGTSTP)
        until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, "stopped")
        until(lambda: all(map(has_heard, psutil.Process(process.pid).children())), "a word to the workers")
        hold.set()
        sent = {arrival.row for arrival in asked.arrivals}
        until(lambda: place.recorded() >= sent, "brought home")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3.1)  # longer than a request may take
        assert {arrival.row for arrival in asked.arrivals} == sent
        os.killpg(process.pid, signal.SIGCONT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert place.output.read_bytes() == reference(40)
    assert (len(asked.arrivals), place.report["sessions"][0]["deaths"]) == (40, 0)


@pytest.mark.timed
def test_a_terminal_that_closes_ends_the_run_after_what_is_on_its_way(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    """Also where a worker was stopped: the terminal wakes the process that it is the terminal of, and no other."""
    witness = simulator(latency_ms=40)
    witness.hold(20)
    place.configure(witness.url)
    place.write_rows(100)
    words = [sys.executable, "-m", "rowmill", "run", "--set", "workers.count=1", "--set", "workers.concurrency=4"]
    terminal, other = os.openpty()
    with subprocess.Popen(
        ["env", "--default-signal=HUP", "setsid", "--ctty", "--wait", *words],  # whoever runs the tests may ignore it
        cwd=place.folder,
        env=place.environ,
        stdin=other,
        stdout=other,
        stderr=other,
    ) as process:
        os.close(other)
        until(lambda: len(place.recorded()) > 10, "some rows")
        (command,) = psutil.Process(process.pid).children() or [psutil.Process(process.pid)]
        for child in command.children():
            child.send_signal(signal.SIGSTOP)
        os.close(terminal)
        witness.go_on()
        assert process.wait(20) in (ExitCode.INTERRUPTED, -signal.SIGHUP)
    assert place.log.splitlines()[-1].endswith("ended with exit code 130")
    assert place.report["sessions"][0]["deaths"] == 0
    assert place.run().code == 0
    assert place.output.read_bytes() == reference(100)
    assert witness.stats()["requests"] == 100
