"""Crashes: of a model of the disk at every moment (Hypothesis), and of real processes."""

import asyncio
import contextlib
import random
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.rows import Shard
from rowmill.files.output.jsonl import Lines
from rowmill.store.checkpoint import Checkpoint

Append = Callable[..., None]
Line = Callable[..., bytes]
MakeShard = Callable[..., Shard]
Start = Callable[..., "subprocess.Popen[str]"]

ROWS = 12


class Crash(NamedTuple):
    """The process dies: of the open group `written` bytes reached the disk, and then nonsense."""

    written: int
    nonsense: bytes


CRASHES = st.builds(Crash, st.integers(0, 3000), st.binary(max_size=20))
STEPS = st.sampled_from(["append", "append", "append", "commit", "close"]) | CRASHES
HISTORIES = st.tuples(
    st.lists(STEPS, max_size=25),
    st.permutations(range(ROWS)),  # in which the rows are recorded
    st.frozensets(st.integers(0, ROWS - 1)),  # the failed ones
)

WRITER = """
import asyncio, sys
from pathlib import Path
from rowmill.core.rows import Shard
from rowmill.files.output.jsonl import Lines
from rowmill.store.checkpoint import Checkpoint

async def run():
    shard = Shard(0, 0, int(sys.argv[2]), 0, 1, 2)
    checkpoint = await Checkpoint.open(Path(sys.argv[1]), shard)
    print(checkpoint.acknowledged.rows, flush=True)
    group = int(sys.argv[3])
    missing = [row for row in range(shard.rows) if not checkpoint.is_done(row)]
    while missing:
        now, missing = missing[:group], missing[group:]
        for row in now:
            checkpoint.append(row, attempts=1, requests=1, ms=1, provider="p", failed=False, prompt_tokens=1,
                              completion_tokens=1, line=b'{"index":%d,"output":"%b"}' % (row, b"x" * 700))
        await checkpoint.commit()
        print(checkpoint.acknowledged.rows, flush=True)
    await checkpoint.seal(Path(sys.argv[1]).parent, Lines())
    await checkpoint.close()

asyncio.run(run())
"""


@settings(max_examples=60, deadline=None)  # each example syncs real files
@given(history=HISTORIES)
def test_after_any_crashes_rows_are_the_acknowledged_ones_and_whole_ones_of_the_open_group(
    shard: MakeShard,
    append: Append,
    line: Line,
    history: tuple[list[str | Crash], list[int], frozenset[int]],
) -> None:
    steps, order, failed = history

    async def run(place: Path) -> None:
        path = place / "c"
        checkpoint = await Checkpoint.open(path, shard(ROWS))
        acknowledged: set[int] = set()
        pending: list[int] = []
        for step in [*steps, "close"]:
            if step == "append":
                left = [index for index in order if not checkpoint.is_done(index)]
                if left:
                    append(checkpoint, left[0], failed=left[0] in failed)
                    pending.append(left[0])
                continue
            if step == "commit":
                assert (await checkpoint.commit()).rows == len(pending)
                acknowledged.update(pending)
                pending = []
                continue
            if isinstance(step, Crash):
                group = b"".join(checkpoint._pending)
                reached = group[: step.written] + step.nonsense  # the nonsense may complete a record by chance
                whole = sum(reached[:end] == group[:end] for end in _record_ends(checkpoint._pending))
                expected = acknowledged | set(pending[:whole])
                checkpoint._log.close()
                with path.open("ab") as file:
                    file.write(reached)
            else:
                await checkpoint.close()
                acknowledged.update(pending)
                expected = acknowledged
            checkpoint = await Checkpoint.open(path, shard(ROWS))
            found = {index for index in range(ROWS) if checkpoint.is_done(index)}
            assert found == expected
            assert checkpoint.acknowledged.rows == len(found)
            assert checkpoint.acknowledged.failed == len(found & failed)
            acknowledged, pending = found, []
        for index in order:
            if not checkpoint.is_done(index):
                append(checkpoint, index, failed=index in failed)
        await checkpoint.commit()
        sealed = await checkpoint.seal(place, Lines())
        await checkpoint.close()
        lines = b"".join(line(index, failed=index in failed) + b"\n" for index in range(ROWS))
        assert (place / "000000.sealed").read_bytes()[: sealed.output_bytes] == lines

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(run(Path(name)))


def _record_ends(records: list[bytes]) -> list[int]:
    """Give the offsets in a group after each row record; the group's own record, the first, is no row's."""
    ends = [sum(map(len, records[: number + 1])) for number in range(len(records))]
    return ends[1:]


@pytest.mark.parametrize("group", [1, 50, 3000])
def test_a_killed_writer_loses_no_row_that_it_was_told_is_acknowledged(
    tmp_path: Path, child: Start, group: int
) -> None:
    rows = {1: 400, 50: 8000, 3000: 60_000}[group]
    dice = random.Random(group)
    shard = Shard(0, 0, rows, 0, 1, 2)

    async def found() -> tuple[int, bool]:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard)
        done = all(checkpoint.is_done(index) for index in range(checkpoint.acknowledged.rows))
        checkpoint._log.close()  # as it was: the next writer opens what the kill left
        return checkpoint.acknowledged.rows, done

    told = 0
    for _ in range(4):
        process = child(WRITER, tmp_path / "c", rows, group)
        assert process.stdout is not None
        assert int(process.stdout.readline()) >= told  # what was acknowledged before is not lost by the next open
        for _ in range(dice.randint(0, 5)):
            with contextlib.suppress(ValueError):
                told = int(process.stdout.readline())
        process.kill()
        told = max([told, *map(int, process.stdout.read().split())])
        process.wait()
        recovered, in_order = asyncio.run(found())
        assert recovered >= told
        assert in_order  # the writer goes through the rows in order
    assert 0 < told < rows
    last = child(WRITER, tmp_path / "c", rows, group)
    assert last.communicate(timeout=60)[0].split()[-1] == str(rows)
    lines = b"".join(b'{"index":%d,"output":"%b"}\n' % (row, b"x" * 700) for row in range(rows))
    assert (tmp_path / "000000.sealed").read_bytes().startswith(lines)
