"""Who wins in a run whose steps compare answers: every judge's verdicts are read where its step has them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rowmill.core.config import Config
from rowmill.core.config.sections import StepConfig
from rowmill.core.reports import RunReport
from rowmill.core.rows import NO_LINE, Shard
from rowmill.core.win_rates import FAILED, UNREADABLE, WinRates, counted, verdict
from rowmill.files.output import members
from rowmill.runs.report.recorded import rows_of_checkpoint
from rowmill.store import manifest as manifests
from rowmill.store.run_directory import RunDirectory

_NO_VERDICT = "invalid_output"  # fails a row whose judge has answered, and said nothing that can be read


class _JudgedError(msgspec.Struct, rename={"fault": "class"}, gc=False):
    fault: str
    step: str = ""


class _JudgedLine(msgspec.Struct, gc=False):
    index: int
    output: Any
    error: _JudgedError | None


_decode = msgspec.json.Decoder(_JudgedLine).decode


def win_rates(config: Config, directory: RunDirectory) -> tuple[WinRates, ...]:
    """Return who wins of each two that steps compare, by what the run in this directory has recorded.

    All verdicts are read, some microseconds each, and a byte of each is held.
    """
    pairs = _pairs(config.step)
    shards = manifests.load_plan(directory.plan) if pairs else None
    if not shards:
        return ()
    rows = shards[-1].first_row + shards[-1].rows
    last = config.step[-1].name
    found = []
    for between, judges in pairs.items():
        verdicts = []
        for name, _ in judges:
            files = directory if name == last else directory.of_step(name)
            of_judge = bytearray(rows)
            for shard in shards:
                for index, word in _verdicts(files.checkpoint_path(shard), shard, name):
                    of_judge[index] = word
            verdicts.append(of_judge)
        found.append(counted(between, judges, Counter(zip(*verdicts, strict=True)).items()))
    return tuple(found)


def are_told(config: Config, report: RunReport) -> bool:
    """Tell whether a report says who wins of all that the steps compare; of a run that compares nothing it does."""
    told = {each.between: list(each.judges) for each in report.win_rates or ()}
    return told == {between: [name for name, _ in judges] for between, judges in _pairs(config.step).items()}


def _pairs(steps: Sequence[StepConfig]) -> dict[tuple[str, str], list[tuple[str, bool]]]:
    """Return which two are compared, in the order of the first step that does, and by whom: see `counted`."""
    pairs: dict[tuple[str, str], list[tuple[str, bool]]] = {}
    for step in steps:
        if step.compares:
            first, second = step.compares
            turned = (second, first) in pairs
            pairs.setdefault((second, first) if turned else (first, second), []).append((step.name, turned))
    return pairs


def _verdicts(path: Path, shard: Shard, step: str) -> Iterator[tuple[int, int]]:
    """Yield the rows of a shard that a judge was asked about, each with what it has come to."""
    for line, _ in rows_of_checkpoint(path, shard):
        if line == NO_LINE:
            continue
        try:
            row = _decode(line)
        except members.UNREADABLE:
            row = _decode(members.repaired(line))
        if row.error is None:
            yield row.index, verdict(row.output)
        elif row.error.step == step:
            yield row.index, UNREADABLE if row.error.fault == _NO_VERDICT else FAILED
