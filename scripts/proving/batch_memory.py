"""The memory of a run by batches: it must not grow with the size of a part, neither on the way up nor down."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from rowmill.core.simulator import SimulatorSettings
from scripts import corpus
from scripts.proving.runs import Run, Tables, check, simulator

ROWS = 40_000
ROW_BYTES = 4_850  # some 150 bytes of a line of a batch are not the row's
REPLY_TOKENS = 1_000  # of 4 characters: what comes down is as large as what goes up
SMALL_MB, LARGE_MB = 20, 200
MOST_GROWTH_MB = 40.0
SHOWN = 4  # sizes of files
PROMPT = "Summarise in one line:\n{text}"


def batch_memory(folder: Path) -> bool:
    """Compare the peaks of a run whose rows make one part with those of the same rows in small parts."""
    work = folder / "batch-memory"
    work.mkdir()
    source = work / "rows.jsonl"
    corpus.write(corpus.synthetic(ROWS, ROW_BYTES), source)
    small, large = (_peaks(work, source, size) for size in (SMALL_MB, LARGE_MB))
    holds = True
    for process, peak in large.items():
        growth = (peak - small[process]) / 1e6
        figures = f"{small[process] / 1e6:.1f} -> {peak / 1e6:.1f} MB, {growth:+.1f} MB, at most {MOST_GROWTH_MB:g}"
        holds &= check(f"peak of {process}", growth <= MOST_GROWTH_MB, figures)
    shutil.rmtree(work)
    return holds


def _peaks(folder: Path, source: Path, size: int) -> Mapping[str, int]:
    """Run parts of at most so many MB; return the highest memory of each process, in bytes."""
    state = folder / f"state-{size}"
    tables: Tables = {"task": {"mode": "batch"}, "batch": {"max_mb": size, "poll_s": 0.25, "poll_max_s": 1.0}}
    settings = SimulatorSettings(batch_s=2, reply_tokens=REPLY_TOKENS, state=str(state))
    with simulator(settings) as witness:
        run = Run(folder / f"parts-{size}", source, witness.url, PROMPT, workers=1, tables=tables)
        run.finish()
        parts = witness.stats()["batches"]["created"]
    sizes = sorted((path.stat().st_size for path in state.rglob("*") if path.is_file()), reverse=True)
    session = run.session
    shown = ", ".join(f"{each / 1e6:.0f}" for each in sizes[:SHOWN])
    print(
        f"  at most {size} MB: {parts} parts, largest files at the provider {shown} MB; {session['elapsed_s']:.1f} s, "
        f"{session['rows_per_s']:,.0f} rows/s"
    )
    peaks: Mapping[str, int] = session["rss_max_bytes"]
    return peaks
