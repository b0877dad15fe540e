"""Concurrency that nobody configured, against the best number that a sweep finds, on three kinds of servers."""

import time
from pathlib import Path
from typing import Literal, NamedTuple

from rowmill.core.simulator import SimulatorSettings
from scripts import corpus
from scripts.proving.runs import Run, check, simulator

PROMPT = "Summarise in one line:\n{text}"
WORKERS = 2
ROWS = 60_000  # more than any run gets to
SWEEP = (8, 16, 32, 48, 64, 96, 128)  # in flight, all workers together
FIXED_S = (3, 13)  # of a run with a fixed number: measured between
AUTO_S = (5, 20, 45)  # of the run without: measured from the first on, held to be steady from the second on
LEAST = 0.9
SLOTS = 32  # that the second and the third server are good for
MOST_IN_FLIGHT = 3 * SLOTS

SERVERS = {
    # 400 a second, which 40 in flight bring; nobody tells the limit, only its 429s do.
    "limit": SimulatorSettings(latency_ms=100, requests_per_minute=24_000, limit_headers=False),
    # 50 ms and 1 ms a token: 160 a second with all slots at work, whatever waits.
    "queue": SimulatorSettings(latency_ms=50, reply_tokens=150, per_token_ms=1, parallel=SLOTS),
    # 320 a second at the knee, half of it at twice the load.
    "knee": SimulatorSettings(latency_ms=100, knee=SLOTS),
}


def adaptive(folder: Path) -> bool:
    """Compare the two on each server."""
    source = folder / "adaptive.jsonl"
    corpus.write(corpus.synthetic(ROWS, 200), source)
    holds = True
    for name, settings in SERVERS.items():
        holds &= _compared(folder, source, name, settings)
    return holds


def _compared(folder: Path, source: Path, name: str, settings: SimulatorSettings) -> bool:
    swept = {}
    for number in SWEEP:
        marks, _ = _marks(folder / f"adaptive-{name}-{number}", source, settings, number // WORKERS, FIXED_S)
        swept[number] = marks[-1].rate_since(marks[0])
    shown = ", ".join(f"{number}: {per_s:.0f}" for number, per_s in swept.items())
    print(f"  {name}: rows/s by the number in flight: {shown}", flush=True)
    best = max(swept.values())
    marks, in_flight = _marks(folder / f"adaptive-{name}-auto", source, settings, "auto", AUTO_S)
    begun, steady, end = marks
    per_s, whole = end.rate_since(steady), end.rate_since(begun)
    holds = check(
        f"{name}: steady",
        per_s >= LEAST * best,
        f"{per_s:.0f} rows/s, {per_s / best:.1%} of the best fixed number's, at least {LEAST:.0%}; from the "
        f"{AUTO_S[0]}th second on {whole:.0f} rows/s, {whole / best:.1%}; at most {in_flight} in flight",
    )
    if settings.parallel is not None:
        holds &= check(f"{name}: in flight", in_flight < MOST_IN_FLIGHT, f"{in_flight}, less than 3 x {SLOTS} slots")
    return holds


class Mark(NamedTuple):
    """How far a run had got at some time."""

    at: float
    answered: int

    def rate_since(self, earlier: "Mark") -> float:
        """Return the replies a second between the two."""
        return (self.answered - earlier.answered) / (self.at - earlier.at)


def _marks(
    target: Path, source: Path, settings: SimulatorSettings, slots: int | Literal["auto"], moments: tuple[float, ...]
) -> tuple[list[Mark], int]:
    """Look at a run so many seconds after its first request; return that and the most that were in flight."""
    marks = []
    with simulator(settings) as witness:
        provider = {"name": "main", "base_url": witness.url, "timeout_s": 60}
        run = Run(target, source, [provider], PROMPT, workers=WORKERS, concurrency=slots)
        with run.started() as process:
            first = run.begin(process, witness)
            for moment in moments:
                run.last_until(first + moment, process)
                marks.append(Mark(time.monotonic(), witness.stats()["by_status"].get("200", 0)))
            stats = witness.stats()
    return marks, stats["in_flight_max"]
