"""A strict limit is used up and hardly ever hit, whatever the rows are like, down to the last of them."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from rowmill.core.simulator import SimulatorSettings
from rowmill.files.input import jsonl
from scripts import corpus
from scripts.proving.runs import SOME_FAILED, Column, Run, Series, check, simulator

PROMPT = "Summarise in one line:\n{text}"
WORKERS = 4
LATENCY_MS = 200.0
RUN_S = 60
LEAST_USED, LEAST_TOKENS_USED = 0.98, 0.95
MOST_REFUSED = 0.001
LAST = 0.1  # of the run
SHORT_BYTES = 64  # of a row
LONG_BYTES = (1000, 30_000)
SHARDS = 200  # the engine cuts an input of some size into so many
SEGMENTS = 6  # of short and of long rows, in turns


class Load(NamedTuple):
    """A limit, and the rows that take it a minute to let through."""

    name: str
    requests_per_minute: float | None
    tokens_per_minute: float | None
    rows: int  # before the last shard's
    last_rows: int  # in the last shard: more than the last tenth of the run
    reply_tokens: float  # mean of a widely varying length; 0 for one line


# A row of the last shard costs 17 tokens and a reply, one of the others 150 to 7,500 and a reply.
LOADS = (
    Load("6,000 requests a minute", 6_000, None, 5_200, 800, 0),
    Load("60,000 requests a minute", 60_000, None, 53_000, 7_000, 0),
    Load("6,000,000 tokens a minute", None, 6_000_000, 2_300, 1_150, 800),
)


def uneven(load: Load) -> Iterator[bytes]:
    """Make rows so that shards are of very different cost: some of a few long rows, some of thousands of short ones.

    Shards are cut by bytes. One row that is as long as a whole shard makes sure that a cut comes before the last
    rows, and the rows before it are long: when only the last shard is left, the other workers have nothing to do.
    """
    random = Random(load.name)  # noqa: S311 - repeatable, no secret
    shard = load.last_rows * SHORT_BYTES * 1.03
    left = shard * (SHARDS - 2) - load.rows * SHORT_BYTES
    lengths: list[int] = []
    while left > 0 and len(lengths) < load.rows:
        shortest, longest = LONG_BYTES
        lengths.append(round(min(max(random.lognormvariate(0, 0.8) * 5 * shortest, shortest), longest)))
        left -= lengths[-1]
    short = [SHORT_BYTES] * ((load.rows - len(lengths)) // SEGMENTS)
    step = len(lengths) // SEGMENTS + 1
    body: list[int] = []
    for segment in range(SEGMENTS):
        body += short + lengths[segment * step : (segment + 1) * step]
    for index, length in enumerate([*body, round(shard * 1.02), *([SHORT_BYTES] * load.last_rows)]):
        yield row(index, length)


def row(index: int, length: int) -> bytes:
    """Make one row of so many bytes."""
    frame = len(corpus.synthetic_line(index, ""))
    text = f"{index:08}: {corpus.FILLER * ((length - frame) // len(corpus.FILLER) + 1)}"
    return corpus.synthetic_line(index, text[: length - frame])


def pacing(folder: Path) -> bool:
    """Use up a limit of requests, slow and fast, and one of tokens."""
    holds = True
    for number, load in enumerate(LOADS):
        holds &= _paced(folder / f"pacing-{number}", load)
    return holds


def _paced(folder: Path, load: Load) -> bool:
    source = folder.with_suffix(".jsonl")
    rows = corpus.write(uneven(load), source)
    with source.open("rb") as file:
        size = jsonl.shard_bytes(source.stat().st_size)
        blocks = jsonl.read_blocks(file)
        shards = [each.rows for each in jsonl.plan_blocks(blocks, shard_bytes=size, shard_rows=jsonl.SHARD_ROWS)]
    holds = check(
        f"{load.name}: uneven",
        shards[-1] == load.last_rows and min(shards[:-2]) * 20 < max(shards),
        f"{len(shards)} shards of {min(shards[:-2])} to {max(shards):,} rows, {shards[-1]:,} of {rows:,} in the last",
    )
    limits = {
        key: limit for key in ("requests_per_minute", "tokens_per_minute") if (limit := getattr(load, key)) is not None
    }
    settings = SimulatorSettings(latency_ms=LATENCY_MS, reply_tokens=load.reply_tokens, **limits)
    with simulator(settings) as witness:
        provider = {"name": "main", "base_url": witness.url, "timeout_s": 60, **limits}
        run = Run(folder, source, [provider], PROMPT, workers=WORKERS, concurrency="auto")
        run.finish(SOME_FAILED)
        stats = witness.stats()
    source.unlink()
    series = Series(stats)
    seconds = series.last - series.first
    by_tokens = load.tokens_per_minute is not None
    spent = stats["charged_tokens"] if by_tokens else stats["admitted"]
    budget = sum(limits.values()) / 60
    least = LEAST_TOKENS_USED if by_tokens else LEAST_USED
    last = series.last - LAST * seconds
    used = spent / (budget * seconds)
    used_last = series.per_s(Column.TOKENS if by_tokens else Column.ADMITTED, last, series.last) / budget
    refused = stats["by_status"].get("429", 0)
    holds &= check(f"{load.name}: used", used >= least, f"{used:.2%} in {seconds:.1f} s, at least {least:.0%}")
    holds &= check(
        f"{load.name}: used in the last {LAST:.0%}",
        used_last >= least,
        f"{used_last:.2%}, at least {least:.0%}, with one shard of {load.last_rows:,} rows left",
    )
    holds &= check(
        f"{load.name}: refused",
        refused <= MOST_REFUSED * stats["requests"],
        f"{refused} of {stats['requests']:,} requests, at most {MOST_REFUSED:.1%}",
    )
    holds &= check(f"{load.name}: long enough", seconds >= RUN_S * 0.9, f"{seconds:.1f} s")
    failed = run.report["totals"]["failed"]
    return holds & check(f"{load.name}: rows", failed == 0, f"{rows:,}, {failed} failed")
