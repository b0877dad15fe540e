"""Opening a checkpoint after whatever happened to its file."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from rowmill.core.counts import Totals
from rowmill.core.errors import RunDirectoryError
from rowmill.core.rows import Shard
from rowmill.files.output.jsonl import Lines
from rowmill.store.checkpoint import Checkpoint
from rowmill.store.framing import framed

Append = Callable[..., None]
Line = Callable[..., bytes]
MakeShard = Callable[..., Shard]
ROWS = 9


def reopen(path: Path, shard: Shard, *, salvage: bool = False) -> tuple[set[int], Checkpoint]:
    """Open and close, and return the rows that were found."""

    async def run() -> Checkpoint:
        checkpoint = await Checkpoint.open(path, shard, salvage=salvage)
        await checkpoint.close()
        return checkpoint

    checkpoint = asyncio.run(run())
    return {index for index in range(shard.rows) if checkpoint.is_done(index)}, checkpoint


def record_start(data: bytes, text: bytes) -> int:
    return data.rindex(b"\n", 0, data.index(text)) + 1


def test_after_a_kill_everything_written_is_there(crashed: Path, shard: MakeShard) -> None:
    found, checkpoint = reopen(crashed, shard(ROWS))
    assert found == set(range(8))
    assert checkpoint.acknowledged == Totals(rows=8, failed=1, prompt_tokens=21, completion_tokens=28, requests=10)
    assert (checkpoint.cut_bytes, checkpoint.repeated) == (0, 0)


def test_cut_at_every_byte_of_its_last_group_it_keeps_the_earlier_groups(
    crashed: Path, shard: MakeShard, append: Append, line: Line, tmp_path: Path
) -> None:
    data = crashed.read_bytes()
    group = record_start(data, b'"group":2')
    ends = [record_start(data, b'"row":7'), len(data)]
    for cut in range(group, len(data)):
        crashed.write_bytes(data[:cut])
        found, checkpoint = reopen(crashed, shard(ROWS))
        whole = sum(end <= cut for end in ends)
        assert found == {*range(6), *range(6, 6 + whole)}
        assert checkpoint.cut_bytes == cut - max(start for start in (group, group_end(data), *ends) if start <= cut)

        if cut % 50 == 0:  # and it goes on from there

            async def go_on(missing: set[int]) -> None:
                again = await Checkpoint.open(crashed, shard(ROWS))
                for index in sorted(missing):
                    append(again, index)
                await again.commit()
                await again.seal(tmp_path, Lines())
                await again.close()

            asyncio.run(go_on(set(range(ROWS)) - found))
            lines = [line(index, failed=index == 4) for index in range(ROWS)]
            assert (tmp_path / "000000.sealed").read_bytes().startswith(b"\n".join(lines) + b"\n")


def group_end(data: bytes) -> int:
    return data.index(b"\n", data.index(b'"group":2')) + 1


@pytest.mark.parametrize(
    "tail",
    [
        b"\0" * 5000,
        b"\0",
        b"\n",
        b"\n\n\n",
        b"\xff\xfe nonsense",
        b"nonsense\nmore\n",
        b"00000000 \n",
        framed(b'{"row":8}'),
        framed(b'{"of":"another version"}'),
        framed(b"no json"),
        framed(b'{"rowmill":2,"shard":[0,0,9,0,900,12648430,0]}'),
        b"torn" + framed(b'{"group":3,"synced":1000000}'),  # of elsewhere: it vouches for nothing here
    ],
)
def test_garbage_at_the_end_is_cut_and_counted(crashed: Path, shard: MakeShard, tail: bytes) -> None:
    before = crashed.read_bytes()
    crashed.write_bytes(before + tail)
    found, checkpoint = reopen(crashed, shard(ROWS))
    assert found == set(range(8))
    assert checkpoint.cut_bytes == len(tail)
    assert crashed.read_bytes() == before + framed(b'{"group":3,"synced":%d}' % len(before))


def test_nonsense_in_the_middle_of_the_last_group_cuts_there(crashed: Path, shard: MakeShard) -> None:
    data = bytearray(crashed.read_bytes())
    start = record_start(bytes(data), b'"row":6')
    data[start + 20 : start + 60] = bytes(40)
    crashed.write_bytes(data)
    found, checkpoint = reopen(crashed, shard(ROWS))
    assert found == set(range(6))  # row 7 has a valid record, but behind nonsense that no sync vouches for
    assert checkpoint.cut_bytes == len(data) - start
    assert checkpoint.acknowledged.rows == 6
    assert reopen(crashed, shard(ROWS))[0] == set(range(6))


@pytest.mark.parametrize("row", range(6))
def test_a_flipped_bit_in_an_earlier_group_is_refused_with_its_rows(crashed: Path, shard: MakeShard, row: int) -> None:
    data = bytearray(crashed.read_bytes())
    start = record_start(bytes(data), b'"row":%d' % row)
    data[start + 40] ^= 1
    crashed.write_bytes(data)
    with pytest.raises(RunDirectoryError) as caught:
        reopen(crashed, shard(ROWS))
    assert str(crashed) in str(caught.value)
    assert f"damaged at byte {start} " in str(caught.value)
    assert f"2 of its 9 rows: {row}, 8. " in str(caught.value)
    assert "--salvage" in str(caught.value)
    assert crashed.read_bytes() == data
    assert [path.name for path in crashed.parent.iterdir()] == ["c"]


def test_salvage_keeps_every_valid_record_and_the_damaged_file(crashed: Path, shard: MakeShard) -> None:
    data = bytearray(crashed.read_bytes())
    data[record_start(bytes(data), b'"row":1') + 40] ^= 1
    twin = record_start(bytes(data), b'"row":7')
    data += data[twin:] + b"torn"
    crashed.write_bytes(data)
    found, checkpoint = reopen(crashed, shard(ROWS), salvage=True)
    assert found == {0, *range(2, 8)}
    assert checkpoint.acknowledged == Totals(rows=7, failed=1, prompt_tokens=18, completion_tokens=24, requests=9)
    assert checkpoint.cut_bytes > 100
    assert checkpoint.repeated == 0
    assert crashed.with_name("c.damaged-1").read_bytes() == data
    again, checkpoint = reopen(crashed, shard(ROWS))
    assert (again, checkpoint.cut_bytes) == (found, 0)


def test_a_second_salvage_keeps_both_damaged_files(crashed: Path, shard: MakeShard) -> None:
    kept = []
    for row in (1, 5):
        data = bytearray(crashed.read_bytes())
        data[record_start(bytes(data), b'"row":%d' % row) + 40] ^= 1
        crashed.write_bytes(data)
        kept.append(bytes(data))
        found, _ = reopen(crashed, shard(ROWS), salvage=True)
    assert found == {0, 2, 3, 4, 6, 7}
    assert [crashed.with_name(f"c.damaged-{number}").read_bytes() for number in (1, 2)] == kept


def test_salvage_of_a_sound_or_a_torn_checkpoint_only_opens_it(crashed: Path, shard: MakeShard) -> None:
    for tail in (b"", b"torn"):
        crashed.write_bytes(crashed.read_bytes() + tail)
        found, checkpoint = reopen(crashed, shard(ROWS), salvage=True)
        assert (found, checkpoint.cut_bytes) == (set(range(8)), len(tail))
    assert [path.name for path in crashed.parent.iterdir()] == ["c"]


def test_after_a_close_no_flipped_byte_can_lose_a_row_unseen(crashed: Path, shard: MakeShard) -> None:
    reopen(crashed, shard(ROWS))  # closes it
    data = crashed.read_bytes()
    last = record_start(data, b'"group":3')
    for place in {*range(0, len(data), 7), last - 1}:
        crashed.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        if place < last:
            with pytest.raises(RunDirectoryError):
                reopen(crashed, shard(ROWS))
        else:
            assert reopen(crashed, shard(ROWS))[0] == set(range(8))


def test_records_that_somebody_took_out_are_missed(crashed: Path, shard: MakeShard) -> None:
    records = crashed.read_bytes().splitlines(keepends=True)
    taken = [record for record in records if b'"row":1,' not in record]
    crashed.write_bytes(b"".join(taken))
    place = b"".join(taken).index(b'"group":1') - 10  # of the first group record that says something is missing
    with pytest.raises(RunDirectoryError, match=f"damaged at byte {place} .* 2 of its 9 rows: 1, 8"):
        reopen(crashed, shard(ROWS))
    assert reopen(crashed, shard(ROWS), salvage=True)[0] == {0, *range(2, 8)}


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\n"])
def test_an_emptied_checkpoint_is_damage_and_can_be_salvaged(crashed: Path, shard: MakeShard, content: bytes) -> None:
    crashed.write_bytes(content)
    with pytest.raises(RunDirectoryError, match=r"damaged at byte 0 .* 9 of its 9 rows: 0-8"):
        reopen(crashed, shard(ROWS))
    assert reopen(crashed, shard(ROWS), salvage=True)[0] == set()


def test_a_lost_header_is_damage_and_its_rows_can_be_salvaged(crashed: Path, shard: MakeShard) -> None:
    data = crashed.read_bytes()
    crashed.write_bytes(data[data.index(b"\n") + 1 :])
    with pytest.raises(RunDirectoryError, match="damaged at byte 0"):
        reopen(crashed, shard(ROWS))
    assert reopen(crashed, shard(ROWS), salvage=True)[0] == set(range(8))


@pytest.mark.parametrize("salvage", [False, True])
def test_the_checkpoint_of_another_shard_is_refused(crashed: Path, shard: MakeShard, salvage: bool) -> None:
    before = crashed.read_bytes()
    with pytest.raises(RunDirectoryError, match="is the checkpoint of another shard"):
        reopen(crashed, shard(ROWS, number=1), salvage=salvage)
    assert crashed.read_bytes() == before


def test_another_format_is_refused(crashed: Path, shard: MakeShard) -> None:
    crashed.write_bytes(framed(b'{"rowmill":9,"shard":{"new":"form"}}') + b"new things")
    with pytest.raises(RunDirectoryError, match="has checkpoint format 9, this version reads 2"):
        reopen(crashed, shard(ROWS))


def test_a_valid_record_of_a_row_outside_the_shard_is_refused(crashed: Path, shard: MakeShard) -> None:
    stray = b'{"row":9,"attempts":1,"requests":1,"ms":1,"provider":"p","failed":false,"usage":[0,0],"line":{}}'
    crashed.write_bytes(crashed.read_bytes() + framed(stray))
    with pytest.raises(RunDirectoryError, match="row 9, which is not in this shard"):
        reopen(crashed, shard(ROWS))


def test_of_a_row_recorded_twice_the_first_record_counts(
    crashed: Path, shard: MakeShard, append: Append, line: Line, tmp_path: Path
) -> None:
    data = crashed.read_bytes()
    twin = b'{"row":0,"attempts":9,"requests":9,"ms":1,"provider":"p","failed":true,"usage":[0,0],"line":{"index":0}}'
    crashed.write_bytes(data + framed(twin))

    async def run() -> None:
        checkpoint = await Checkpoint.open(crashed, shard(ROWS))
        assert checkpoint.repeated == 1
        assert checkpoint.acknowledged.rows == 8
        append(checkpoint, 8)
        await checkpoint.commit()
        await checkpoint.seal(tmp_path, Lines())
        await checkpoint.close()

    asyncio.run(run())
    assert (tmp_path / "000000.sealed").read_bytes().startswith(line(0) + b"\n" + line(1) + b"\n")


def test_the_damage_report_names_ranges_and_stays_one_short_line(
    tmp_path: Path, shard: MakeShard, append: Append
) -> None:
    async def run() -> None:
        checkpoint = await Checkpoint.open(tmp_path / "c", shard(500, first_row=1000))
        for index in (*range(1000, 1100, 2), *range(1200, 1500)):
            append(checkpoint, index)
        await checkpoint.close()

    asyncio.run(run())
    data = bytearray((tmp_path / "c").read_bytes())
    data[record_start(bytes(data), b'"row":1300') + 40] ^= 1
    (tmp_path / "c").write_bytes(data)
    with pytest.raises(RunDirectoryError, match=r"151 of its 500 rows: 1001, 1003, .*1039, \.\.\.\. Run") as caught:
        asyncio.run(Checkpoint.open(tmp_path / "c", shard(500, first_row=1000)))
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)
