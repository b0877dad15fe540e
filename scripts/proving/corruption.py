"""Corruption: one thing in a run directory is spoilt, and the same command runs again.

Right, or one line with a documented exit code: never a traceback, never other bytes, never without end.
"""

import collections
import concurrent.futures
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from scripts.proving.runs import ItemError, check

CASES = 440
ROWS = 160
LONGEST_S = 90.0  # of one command on a machine under load; most take a second
# Root may read and write what is forbidden; without these rights it may not.
_OBEDIENT = (
    ("setpriv", "--inh-caps=-dac_override,-dac_read_search", "--bounding-set=-dac_override,-dac_read_search")
    if os.geteuid() == 0 and shutil.which("setpriv")
    else ()
)
TOLD = frozenset({2, 5, 6})  # the exit codes by which a command may refuse
SEED = 12

_CONFIG = """
[input]
path = "{input}"
id = "id"
[task]
model = "sim-small"
prompt = "Summarise in one line: {{text}}"
mode = "{mode}"
[output]
path = "out.jsonl"
[[provider]]
base_url = "simulator"
timeout_s = 10
[simulator]
latency_ms = {latency}
batch_s = 0.2
[workers]
count = 1
concurrency = 8
[checkpoint]
commit_ms = 20
[cache]
use = "{cache}"
dir = "cache"
[batch]
max_requests = 40
poll_s = 0.1
poll_max_s = 0.1
"""


class State(NamedTuple):
    """A run as it was left: killed half-way, or finished."""

    name: str
    folder: Path
    reference: bytes  # the output that it comes to


class Ended(NamedTuple):
    """What came of one case."""

    what: str
    problem: str | None
    code: int | None


def corruption(folder: Path) -> bool:
    """Spoil runs in every state and every way."""
    home = folder / "corruption"
    home.mkdir()
    return proved(home, CASES, SEED, workers=os.cpu_count() or 1)


def proved(home: Path, cases: int, seed: int, *, workers: int, only: str = "") -> bool:
    """Do so many cases, print what came of them, and return whether all were right. `only`: a run in that state."""
    found = states(home, only)
    dice = random.Random(seed)  # noqa: S311 - no secret
    jobs = [(found[case % len(found)], home / f"case-{case}", dice.randrange(1 << 30)) for case in range(cases)]
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:  # each waits for its command
        ended = list(pool.map(lambda job: tried(*job), jobs))
    wrong = [each for each in ended if each.problem is not None]
    for each in wrong[:20]:
        print(f"       {each.what}: {each.problem}")
    codes = collections.Counter(each.code for each in ended)
    figures = ", ".join(f"{count} with exit code {code}" for code, count in sorted(codes.items(), key=str))
    return check(f"{cases} corruptions", not wrong, f"{figures}; {len(wrong)} wrong")


def states(home: Path, only: str = "") -> list[State]:
    """Make the runs that are to be spoilt, or that one."""
    made = []
    for name, source, mode, cache, half in (
        ("half", "in.jsonl", "live", "off", True),
        ("spooled", "in.csv", "live", "off", True),
        ("claims", "in.jsonl", "live", "run", True),
        ("cached", "in.jsonl", "live", "disk", True),
        ("batches", "in.jsonl", "batch", "off", True),
        ("finished", "in.jsonl", "live", "off", False),
    ):
        if only not in ("", name):
            continue
        folder = home / f"state-{name}"
        _write(folder, source, mode, cache)
        _configure(folder, source, mode, cache, latency=0)
        whole = shutil.copytree(folder, home / f"whole-{name}")
        code, said = _command(whole)
        if code:
            raise ItemError(f"the {name} run ends with {code}: {said[-2000:]}")
        reference = (whole / "out.jsonl").read_bytes()
        if half:
            _configure(folder, source, mode, cache, latency=40)
            _killed(folder, mode)
            _configure(folder, source, mode, cache, latency=0)
        else:
            folder = whole
        made.append(State(name, folder, reference))
    return made


def tried(state: State, place: Path, seed: int) -> Ended:
    """Spoil a copy of a run in one way, run it again, and judge."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    shutil.copytree(state.folder, place, symlinks=True)
    roots = [place / "out.jsonl.run", place / "cache"]
    entries = [path for root in roots if root.exists() for path in [*sorted(root.rglob("*")), root]]
    entries = [path for path in entries if "simulator" not in path.parts[len(place.parts) :]]  # that is the server's
    kinds = collections.defaultdict(list)  # each kind of file as often as any other, however many there are
    for path in entries:
        kinds[(path.parent.name, path.suffix or path.name)].append(path)
    path = dice.choice(kinds[dice.choice(list(kinds))])
    ways = FILE_WAYS if path.is_file() and path.stat().st_size else PLACE_WAYS
    way = dice.choice(ways)
    what = f"{state.name}, {path.relative_to(place)}, {way.__name__} (seed {seed})"
    way(path, dice)
    code, said = _command(place)
    if way is forbidden and path.exists():  # what was read again of it is judged, not this test's own rights
        path.chmod(0o700)
    problem = _judged(place, state, code, said)
    if problem is None:
        shutil.rmtree(place, ignore_errors=True)
    return Ended(what, problem, code)


def _judged(place: Path, state: State, code: int | None, said: str) -> str | None:
    if code is None:
        return f"not over after {LONGEST_S:g} s: {said[-500:]}"
    if "Traceback" in said or "defect" in said:
        return f"exit code {code}, and a traceback or a defect: {said[-1500:]}"
    if code == 0:
        right = (place / "out.jsonl").exists() and (place / "out.jsonl").read_bytes() == state.reference
        return None if right else "exit code 0, and other bytes in the output"
    if code not in TOLD:
        return f"exit code {code}: {said[-1500:]}"
    told = any(line.startswith(("rowmill: ", "Stopped: ")) for line in said.splitlines())
    return None if told else "no line says why"


# What may happen to a file, and to a place


def flipped(path: Path, dice: random.Random) -> None:
    """Turn one bit."""
    data = bytearray(path.read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def truncated(path: Path, dice: random.Random) -> None:
    """Cut it off."""
    os.truncate(path, dice.randrange(path.stat().st_size))


def extended(path: Path, dice: random.Random) -> None:
    """Add something."""
    with path.open("ab") as file:
        file.write(dice.choice([b"\0" * 100, b"x", b"\n", b"{}\n", dice.randbytes(500)]))


def zeroed(path: Path, dice: random.Random) -> None:
    """Put zeros in the place of some of it, or of all."""
    data = bytearray(path.read_bytes())
    start, end = sorted((dice.randrange(len(data) + 1), dice.randrange(len(data) + 1)))
    start, end = dice.choice([(start, end), (0, len(data))])
    data[start:end] = bytes(end - start)
    path.write_bytes(data)


def scrambled(path: Path, dice: random.Random) -> None:
    """Put anything in its place."""
    path.write_bytes(dice.randbytes(dice.choice([1, 100, 5000])))


def deleted(path: Path, dice: random.Random) -> None:  # noqa: ARG001 - as the others
    """Take it away."""
    _removed(path)


def made_directory(path: Path, dice: random.Random) -> None:
    """Put a directory there, empty or not."""
    _removed(path)
    path.mkdir()
    if dice.random() < 0.5:  # noqa: PLR2004
        (path / "x").write_text("x")


def made_file(path: Path, dice: random.Random) -> None:
    """Put a file there."""
    _removed(path)
    path.write_bytes(dice.choice([b"", b"x"]))


def made_link(path: Path, dice: random.Random) -> None:
    """Put a link there: to nothing, to itself, to what always is empty."""
    _removed(path)
    path.symlink_to(dice.choice(["/nowhere/at/all", path.name, os.devnull]))


def made_pipe(path: Path, dice: random.Random) -> None:  # noqa: ARG001 - as the others
    """Put a named pipe there, which nobody writes to."""
    _removed(path)
    os.mkfifo(path)


def forbidden(path: Path, dice: random.Random) -> None:  # noqa: ARG001 - as the others
    """Let nobody read or write it. Root may, so it is run without that right."""
    path.chmod(0)


PLACE_WAYS: Sequence[Callable[[Path, random.Random], None]] = (
    deleted,
    made_directory,
    made_file,
    made_link,
    made_pipe,
    forbidden,
)
FILE_WAYS = (*([flipped] * 3), *([truncated] * 2), extended, zeroed, scrambled, *PLACE_WAYS)


def _removed(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


# The command


def _write(folder: Path, source: str, mode: str, cache: str) -> None:
    folder.mkdir()
    rows = [
        (f"id-{row}", f"row {row if cache == 'off' or row % 3 else 0} {'of no meaning ' * 90}") for row in range(ROWS)
    ]
    if source.endswith(".csv"):
        text = "id,text\n" + "".join(f"{name},{words}\n" for name, words in rows)
    else:
        text = "".join(json.dumps({"id": name, "text": words}) + "\n" for name, words in rows)
    (folder / source).write_text(text)
    _configure(folder, source, mode, cache, latency=40)


def _configure(folder: Path, source: str, mode: str, cache: str, *, latency: int) -> None:
    text = _CONFIG.format(input=source, mode=mode, cache=cache, latency=latency)
    (folder / "config.toml").write_text(text)


def _started(folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*_OBEDIENT, sys.executable, "-P", "-m", "rowmill", "run"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _command(folder: Path) -> tuple[int | None, str]:
    """Run the command; returns its exit code, None where it had to be killed, and what it said."""
    with _started(folder) as process:
        try:
            _, said = process.communicate(timeout=LONGEST_S)
            code: int | None = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            _, said = process.communicate()
            code = None
    return code, said.decode(errors="replace")


def _killed(folder: Path, mode: str) -> None:
    """Run until about the half, and kill everything at once."""
    run = folder / "out.jsonl.run"

    def half() -> bool:
        if mode == "batch":
            return (run / "batches" / "journal").exists() and len(list((run / "checkpoints").glob("*"))) > 1
        return len(list((run / "checkpoints").glob("*"))) > 3 and any((run / "sealed").glob("*"))  # noqa: PLR2004

    with _started(folder) as process:
        for _ in itertools.count():
            if half() or process.poll() is not None:
                break
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
