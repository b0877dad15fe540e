"""A provider that answers 503 for a minute: what it is asked meanwhile, and how fast the run is itself again."""

import time
from collections.abc import Iterator
from pathlib import Path

from rowmill.core.simulator import SimulatorSettings
from scripts import corpus
from scripts.proving.runs import SOME_FAILED, Column, Run, Series, check, simulator

PROMPT = "Summarise in one line:\n{text}"
WORKERS = 2
LATENCY_MS = 200.0
PER_MINUTE = 15_000
BEFORE_S, OUTAGE_S, AFTER_S = 40, 60, 50
SETTLING_S = 10  # of the start, left out of what is usual
RECOVERY_S = 15
LEAST_BACK = 0.9
LEAST_OF_3_S = 0.9  # of what is usual, in any three seconds after the recovery: it does not swing
MOST_ATTEMPTS = 1.15
STEP_S = 5  # of the printed series


def outage(folder: Path) -> bool:
    """Let a provider fail for a minute in the middle of a run."""
    rows = PER_MINUTE // 60 * (BEFORE_S + AFTER_S)
    source = folder / "outage.jsonl"
    corpus.write(corpus.synthetic(rows, 200), source)
    settings = SimulatorSettings(latency_ms=LATENCY_MS, requests_per_minute=PER_MINUTE)
    with simulator(settings) as witness:
        provider = {"name": "main", "base_url": witness.url, "timeout_s": 30, "requests_per_minute": PER_MINUTE}
        run = Run(folder / "outage", source, [provider], PROMPT, workers=WORKERS, concurrency="auto")
        with run.started() as process:
            run.last_until(run.begin(process, witness) + BEFORE_S, process)
            struck = time.time()
            witness.fail("default", "503", OUTAGE_S)
            run.wait(process, SOME_FAILED)
        stats = witness.stats()
    series = Series(stats)
    healed = struck + OUTAGE_S
    for line in lines(series, struck, healed):
        print(f"  {line}")
    usual = series.per_s(Column.ANSWERED, series.first + SETTLING_S, struck)
    recovered = healed + RECOVERY_S
    end = series.last - 1  # the last rows are few
    attempts = stats["requests"] / rows
    sent = series.per_s(Column.REQUESTS, struck + STEP_S, healed)
    print(f"  during the outage {sent:.1f} requests/s were sent, usual were {usual:.0f} rows/s")
    holds = check("requests", attempts <= MOST_ATTEMPTS, f"{attempts:.3f} x rows, at most {MOST_ATTEMPTS}")
    back = series.per_s(Column.ANSWERED, recovered, end) / usual
    first = next(
        (s for s in range(int(healed), int(end)) if series.count(Column.ANSWERED, s) >= LEAST_BACK * usual), int(end)
    )
    holds &= check(
        "throughput",
        back >= LEAST_BACK,
        f"{back:.1%} of the usual from {RECOVERY_S} s after the recovery on, at least {LEAST_BACK:.0%}; the first "
        f"second with so much came after {first - healed:.0f} s",
    )
    lowest = series.lowest(Column.ANSWERED, recovered, end, 3) / usual
    holds &= check("steady", lowest >= LEAST_OF_3_S, f"lowest 3 s: {lowest:.1%}, at least {LEAST_OF_3_S:.0%}")
    failed = run.report["totals"]["failed"]
    return holds & check("rows", failed == 0, f"{rows:,}, {failed} failed")


def lines(series: Series, struck: float, healed: float) -> Iterator[str]:
    """Plot the series, a line for some seconds."""
    yield "       s  requests/s  answered/s  failed/s"
    start = int(series.first) + 1
    while start + STEP_S <= series.last:
        sent, answered, failed = (
            series.per_s(column, start, start + STEP_S) for column in (Column.REQUESTS, Column.ANSWERED, Column.FAILED)
        )
        phase = "outage " if start < healed and start + STEP_S > struck else ""
        bar = "#" * round(answered / 8)
        yield f"{start - series.first:8.0f}  {sent:10.1f}  {answered:10.1f}  {failed:8.1f}  {phase}{bar}".rstrip()
        start += STEP_S
