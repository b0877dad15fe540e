"""Rows of a later step: read as the step before has sealed them, and recorded where nothing more is asked of them."""

import asyncio
from pathlib import Path

import pytest

from rowmill.core.config.sections import OutputConfig
from rowmill.core.counts import Totals
from rowmill.core.errors import RunDirectoryError
from rowmill.core.rows import LEFT_OUT, Layout, Shard, StepOfRun
from rowmill.files.output import open_codec
from rowmill.store.checkpoint import Checkpoint
from rowmill.store.seal import seal_name
from rowmill.worker.live.handed_on import HandedOn, ended_in

SHARD = Shard(3, 40, 3, 100, 200, 7)
STEP = StepOfRun(name="draft", previous=None, last=False, where="output != no", fields=None)
REST = b',"input":{"a":%d},"meta":{"provider":"p","attempts":2,"requests":2,"ms":1}}'
LINES = [
    b'{"index":40,"id":null,"output":"yes","error":null' + REST % 0,
    b'{"index":41,"id":"x","output":null,"error":{"class":"timeout","code":null,"status":null,"message":"m"}'
    + REST % 1,
    b'{"index":42,"id":null,"output":"no","error":null' + REST % 2,
]


async def _sealed(folder: Path) -> Path:
    checkpoint = await Checkpoint.open(folder / "x.checkpoint", SHARD)
    for place, line in enumerate(LINES):
        checkpoint.append(40 + place, 2, 2, 1, "p", line, failed=place == 1)
    await checkpoint.commit()
    sealed = await checkpoint.seal(folder, open_codec(OutputConfig(path="o.jsonl"), Layout(), STEP))
    await checkpoint.close()
    assert (sealed.totals, sealed.left_out) == (Totals(rows=3, failed=1, requests=6), 1)
    return folder / seal_name(SHARD.number)


async def _read(path: Path, shard: Shard = SHARD) -> list[bytes]:
    found: list[bytes] = []
    async with HandedOn(path, shard) as reader:
        while lines := await reader.read():
            found += lines
    return found


def test_rows_come_as_they_were_handed_on_without_what_stands_behind_them(tmp_path: Path) -> None:
    path = asyncio.run(_sealed(tmp_path))
    lines = asyncio.run(_read(path))
    assert (lines[0], lines[2]) == (b'{"a":0,"draft":"yes"}', LEFT_OUT)
    assert len(lines) == SHARD.rows
    (failed, left_out) = ended_in(lines, SHARD.first_row)
    assert left_out == (42, None)
    assert failed[0] == 41
    assert failed[1] is not None
    assert (failed[1].attempts, bytes(failed[1].id), bytes(failed[1].input)) == (2, b'"x"', b'{"a":1}')


@pytest.mark.parametrize("change", ["gone", "flipped", "cut", "other"])
def test_what_is_not_as_it_was_sealed_is_refused_with_what_to_do(tmp_path: Path, change: str) -> None:
    path = asyncio.run(_sealed(tmp_path))
    data = bytearray(path.read_bytes())
    shard = SHARD
    if change == "gone":
        path.unlink()
    elif change == "other":
        shard = Shard(3, 40, 3, 100, 201, 8)
    else:
        data[5] ^= 1
        path.write_bytes(data if change == "flipped" else data[:-30])
    with pytest.raises(RunDirectoryError, match="Move it out of the run directory and run the same command again"):
        asyncio.run(_read(path, shard))
