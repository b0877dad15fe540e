"""Batches at size: the bytes of the live API's output, and the same after twenty kills all over the cycle."""

import filecmp
import itertools
import json
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import psutil

from rowmill.core.simulator import SimulatorSettings
from scripts.proving import faults, sizes
from scripts.proving.estimates import PROMPT
from scripts.proving.runs import ItemError, Run, Tables, Witness, check, children, gone, simulator, until
from scripts.proving.stages import Stage, Stages

ROWS = 120_000
PART_ROWS = 20_000
PARTS = ROWS // PART_ROWS
BATCH_S = 6.0
TABLES: Tables = {
    "task": {"mode": "batch"},
    "batch": {"max_requests": PART_ROWS, "poll_s": 0.25, "poll_max_s": 1.0},
}
# What happens to files and batches beside the kills: some come through without an answer.
UPLOADS = ("upload_slow:0.5", "upload_lost", "ok", "upload_slow:0.5", "upload_lost")
BATCHES = ("ok", "create_lost", "content_502", "create_lost", "create_late:1", "content_cut")
# Kills of each stage. Merging is short when everything is collected: its kill comes just before the output is there.
KILLS = {
    Stage.BUILD: 3,
    Stage.UPLOAD: 3,
    Stage.CREATE: 3,
    Stage.POLL: 3,
    Stage.DOWNLOAD: 3,
    Stage.COLLECT: 4,
}


def batches(folder: Path) -> bool:
    """Run rows live, by batches, and by batches under kills; compare the bytes and what was sent."""
    work = folder / "batches"
    work.mkdir()
    source = _write(folder, work / "rows.jsonl")
    with simulator(SimulatorSettings(latency_ms=1)) as witness:
        live = Run(work / "live", source, witness.url, PROMPT, workers=2, concurrency=64)
        live.finish()
        stats = witness.stats()
    print(f"  live: {live.session['rows_per_s']:,.0f} rows/s, {live.session['elapsed_s']:.1f} s")
    tokens = stats["prompt_tokens"], stats["completion_tokens"]
    with simulator(SimulatorSettings(batch_s=BATCH_S)) as witness:
        run = Run(work / "batch", source, witness.url, PROMPT, workers=1, tables=TABLES)
        lengths = _timed(run)
        print(f"  batches: {run.session['rows_per_s']:,.0f} rows/s, {run.session['elapsed_s']:.1f} s")
        holds = _holds("batches", run, live, witness, tokens)
    shown = ", ".join(f"{stage.name.lower()} {seconds:.2f}" for stage, seconds in lengths.items())
    print(f"  seconds of a part in each stage: {shown}")
    script = SimulatorSettings(batch_s=BATCH_S, upload_script=UPLOADS, batch_script=BATCHES)
    with simulator(script) as witness:
        run = Run(work / "killed", source, witness.url, PROMPT, workers=1, tables=TABLES)
        began = time.monotonic()
        struck = _Killer(run, _drawn(lengths)).finish()
        print(f"  killed: {time.monotonic() - began:.1f} s")
        holds &= _struck(struck)
        holds &= _holds("killed", run, live, witness, tokens)
    holds &= _orphans(run)
    shutil.rmtree(work)
    return holds


def _write(folder: Path, path: Path) -> Path:
    """Write all real rows, and so many of them again, each under another id, that there are enough."""
    everything, _ = faults.input_of(folder)
    rows = 0
    with path.open("wb") as file:
        for number in itertools.count():
            with everything.open("rb") as lines:
                for line in itertools.islice(lines, ROWS - rows):
                    row = json.loads(line)
                    file.write(json.dumps({**row, "id": f"{row['id']}/{number}"}).encode() + b"\n")
                    rows += 1
            if rows == ROWS:
                break
    return path


def _timed(run: Run) -> dict[Stage, float]:
    """Run undisturbed; return how long a part is in each stage on average, in seconds."""
    stages = Stages(run.run_dir, PARTS)
    entered: dict[tuple[Stage, int], float] = {}
    with run.started() as process:
        while process.poll() is None:
            stages.look()
            now = time.monotonic()
            for stage, part in itertools.product(Stage, range(PARTS)):
                if stages.reached(stage, part):
                    entered.setdefault((stage, part), now)
            time.sleep(0.005)
        ended = time.monotonic()
        run.wait(process)
    lengths = {
        stage: sum(entered[Stage(stage + 1), part] - entered[stage, part] for part in range(PARTS)) / PARTS
        for stage in KILLS
    }
    return {**lengths, Stage.MERGE: ended - entered[Stage.MERGE, 0]}


class _Target(NamedTuple):
    """A moment to strike at: so many seconds after a part has reached a stage, and before it leaves it."""

    stage: Stage
    part: int
    delay: float


class _Strike(NamedTuple):
    victim: str
    part: int
    stage: Stage  # of that part, just before
    all: tuple[Stage, ...]  # parts


def _drawn(lengths: Mapping[Stage, float]) -> list[_Target]:
    random = Random(8)  # noqa: S311 - repeatable, no secret
    return [
        _Target(stage, part, random.uniform(0, lengths[stage]))
        for stage, count in KILLS.items()
        for part in sorted(random.sample(range(PARTS), count))
    ]


class _Killer:
    """Brings a run to its end although it is killed at every target: its supervisor and its worker in turns."""

    def __init__(self, run: Run, targets: list[_Target]) -> None:
        self._run = run
        self._stages = Stages(run.run_dir, PARTS)
        self._left = targets
        self._reached: dict[_Target, float] = {}  # since when a part has been at the stage of a target
        self._struck: list[_Strike] = []
        self._at_end = False  # it has struck at the end of the merge

    def finish(self) -> list[_Strike]:
        """Return the kills, in their order."""
        while self._left or not self._at_end:
            # Until it has struck, the program kills itself at the end of the merge.
            program = ("-m", "rowmill") if self._at_end else ("-c", sizes.KILLED_AT_ITS_END)
            with self._run.started(program) as process:
                while self._strike(process):
                    pass
            if process.returncode != -signal.SIGKILL:
                raise ItemError(f"exit code {process.returncode} with {len(self._left)} kills to come")
        self._run.finish()
        return self._struck

    def _strike(self, process: "subprocess.Popen[bytes]") -> bool:
        """Strike once; tell whether the command goes on."""
        # Batches go on without the run. What is done here is begun again, and so is the time until it is struck at.
        self._reached = {target: since for target, since in self._reached.items() if target.stage is Stage.POLL}
        target = None
        while target is None:
            if process.poll() is not None:
                if not self._at_end and process.returncode == -signal.SIGKILL:
                    self._at_end = True
                    self._note("supervisor", 0, Stage.MERGE)
                return False
            self._stages.look()
            target = self._due()
            time.sleep(0.002)
        victim = self._victim(process)
        if victim is None:
            return True  # it is between two of them: the same target is due again
        self._left.remove(target)
        stage = Stage.MERGE if self._stages.reached(Stage.MERGE, 0) else self._stages.now[target.part]
        if victim == process.pid:
            orphans = children(process)
            process.send_signal(signal.SIGKILL)
            self._note("supervisor", target.part, stage)
            until(lambda: all(map(gone, orphans)), "the end of the worker", 60)
            process.wait()
            return False
        worker = psutil.Process(victim)
        worker.kill()
        self._note("worker", target.part, stage)
        until(lambda: gone(worker), "the end of the worker", 60)
        return True

    def _due(self) -> _Target | None:
        now = time.monotonic()
        for target in self._left:
            if self._stages.reached(target.stage, target.part):
                since = self._reached.setdefault(target, now)
                if now - since >= target.delay or self._stages.passed(target.stage, target.part):
                    return target
        return None

    def _victim(self, process: "subprocess.Popen[bytes]") -> int | None:
        """Return whose turn it is: the supervisor, or the worker, which is None where there is none just now."""
        if self._struck and self._struck[-1].victim == "worker":
            return process.pid
        for child in children(process):
            try:
                if "rowmill.worker.batch.process" in child.cmdline():
                    return child.pid
            except psutil.Error:
                continue
        return None

    def _note(self, victim: str, part: int, stage: Stage) -> None:
        self._struck.append(_Strike(victim, part, stage, tuple(self._stages.now)))


def _struck(struck: list[_Strike]) -> bool:
    for number, strike in enumerate(struck, 1):
        parts = " ".join(stage.name.lower() for stage in strike.all)
        print(f"    {number:2} {strike.victim:10} at {strike.stage.name.lower():8} of part {strike.part}: {parts}")
    stages = Counter(strike.stage for strike in struck)
    victims = Counter(strike.victim for strike in struck)
    figures = f"{len(struck)}: {_shown(victims)}; at {_shown({s.name.lower(): stages[s] for s in Stage})}"
    holds = len(struck) == sum(KILLS.values()) + 1 and all(stages[stage] for stage in (*KILLS, Stage.MERGE))
    return check("kills, all over the cycle", holds, figures)


def _holds(name: str, run: Run, live: Run, witness: Witness, tokens: tuple[int, int]) -> bool:
    """Check the output of a finished run by batches, and what its batches were."""
    stats = witness.stats()
    seen: dict[str, Any] = stats["batches"]
    same = filecmp.cmp(run.output, live.output, shallow=False)
    size = run.output.stat().st_size
    holds = check(f"{name}: output", same, f"{size:,} bytes {'are the same' if same else 'differ'} as of the live API")
    created, again, ends = seen["created"], seen["same_try"], seen["by_status"]
    holds &= check(
        f"{name}: batches",
        created == PARTS and again == 0 and ends == {"completed": PARTS},
        f"{created} for {PARTS} parts, {again} of the same try of the same part; {_shown(ends)}",
    )
    print(f"       {seen['files']} files were uploaded, {seen['files_twice']} of them twice; {seen['retrieved']} polls")
    holds &= check(
        f"{name}: rows asked",
        seen["completed"] == seen["requests"] == ROWS and stats["requests"] == 0 == stats["repeated_after_success"],
        f"{seen['completed']:,} of {seen['requests']:,} lines for {ROWS:,} rows; {stats['requests']} live",
    )
    billed = seen["prompt_tokens"], seen["completion_tokens"]
    told = tuple(run.report["totals"][at] for at in ("prompt_tokens", "completion_tokens"))
    paid = run.report["cost"]["tokens"]
    return holds & check(
        f"{name}: tokens",
        billed == tokens == told and paid == sum(billed),
        f"{billed} billed, {tokens} live; {told} in the report, {paid:,} in its cost",
    )


def _orphans(run: Run) -> bool:
    """Check that what came through without an answer was found, as the run's log says."""
    (log,) = run.run_dir.glob("*.log")
    text = log.read_text()
    files, made = text.count("its file had arrived as"), text.count("its batch had been created as")
    return check("orphans found and used", files > 0 and made > 0, f"{files} files, {made} batches")


def _shown(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
