"""What a trial has measured: for each of its requests what was counted before, and what the replies have cost."""

import asyncio
from pathlib import Path

import msgspec

from rowmill.budget import prices
from rowmill.core.amounts import Spent
from rowmill.core.config import Config
from rowmill.core.errors import InvalidRow
from rowmill.core.plan import TrialFigures
from rowmill.core.reports import RunReport
from rowmill.core.rows import InputPart, Shard
from rowmill.core.wire import Request
from rowmill.files.input.inputs import Input
from rowmill.files.input.shard_readers import open_reader
from rowmill.runs.begun import find_input
from rowmill.runs.plan.sizes import size_of
from rowmill.runs.preparation import settled
from rowmill.store import manifest as manifests
from rowmill.store.recovery import row_records
from rowmill.store.run_directory import RunDirectory
from rowmill.tasks import Task
from rowmill.tasks.factory import open_task


class Point(msgspec.Struct, frozen=True):
    """One request of the trial: tokens counted from its text, and those that were paid for."""

    counted: float
    prompt: int
    reply: int


class Trial(msgspec.Struct, frozen=True):
    """A trial that has come to its end."""

    figures: TrialFigures
    points: list[Point]

    @property
    def tells(self) -> bool:
        """Whether anything was measured: some servers do not say what a reply took."""
        return any(point.prompt for point in self.points) or (not self.points and self.figures.prompt_tokens > 0)


def live(config: Config) -> Config:
    """Return the configuration of a run through the live API: a trial by batches could take a day."""
    return msgspec.structs.replace(config, task=msgspec.structs.replace(config.task, mode="live"))


def trial_of(own: Config, report: RunReport, rows: int, *, again: bool) -> Trial:
    """Read what a finished trial of so many rows has measured. `own` is its configuration.

    again: it had been asked before. Raises `RunDirectoryError` where its files are damaged.
    """
    found = find_input(own, sample=rows)
    config = settled(own, found)
    totals = report.totals
    spent = Spent(totals.requests, totals.prompt_tokens, 0, totals.completion_tokens)
    usd = report.cost.usd if report.cost is not None else None
    figures = TrialFigures(
        rows=totals.rows,
        failed=totals.failed,
        requests=spent.requests,
        prompt_tokens=spent.prompt_tokens,
        completion_tokens=spent.completion_tokens,
        usd=_usd(own, spent) if usd is None else usd,
        output=report.output,
        run_dir=str(own.run_dir),
        again=again,
    )
    return Trial(figures, [] if config.step else _read(config, found))  # of several requests a row none is like another


def _usd(config: Config, spent: Spent) -> float | None:
    """Return what a trial has cost, where its providers all have one price."""
    known = {price for price, provider in zip(prices.find(config), config.provider, strict=True) if provider.weight > 0}
    price = known.pop() if len(known) == 1 else None
    return None if price is None else price.usd(spent)


def _read(config: Config, found: Input) -> list[Point]:
    """Return what was asked, by request; without rows that could not be asked, or had their answer from others."""
    directory = RunDirectory(config.run_dir)
    task = open_task(config.task, config.input, whole_reply=config.output.format == "batch", parts=config.output.parts)
    parts = found.parts(directory.spool)
    shards = manifests.load_plan(directory.plan) or []
    return asyncio.run(_points(config.task.api, task, shards, parts, directory))


async def _points(
    api: str, task: Task, shards: list[Shard], parts: list[InputPart], directory: RunDirectory
) -> list[Point]:
    result = []
    for shard in shards:
        usage = _usage(directory.checkpoint_path(shard))
        asked: list[tuple[Request, tuple[int, int]]] = []
        async with open_reader(parts[shard.part], shard, task.columns) as reader:
            index = shard.first_row
            while lines := await reader.read():
                for line in lines:
                    paid = usage.get(index)
                    index += 1
                    if paid is None:
                        continue
                    try:
                        asked.append((task.build(line), paid))
                    except InvalidRow:
                        continue
        step = task.rows_per_request
        for start in range(0, len(asked), step):
            pack = asked[start : start + step]
            size = size_of(task.pack([request for request, _ in pack]).body, api, len(pack))
            result.append(Point(size.prompt, sum(paid[0] for _, paid in pack), sum(paid[1] for _, paid in pack)))
    return result


def _usage(checkpoint: Path) -> dict[int, tuple[int, int]]:
    """Return the tokens of the rows that were asked, by their index. The last record of a row counts."""
    return {row.row: row.usage for row in row_records(checkpoint) if row.requests or row.usage != (0, 0)}
