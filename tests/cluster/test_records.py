"""What nodes have written comes into the run directory where it says it belongs, is on the disk then, or is told."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.cluster.records import Records
from rowmill.cluster.wire import Arrived, Board, Group, Told, Whole
from rowmill.core.errors import MachineError
from rowmill.store import durable
from rowmill.store.run_directory import RunDirectory


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[RunDirectory]:
    with RunDirectory.open(tmp_path / "out.jsonl.run") as directory:
        yield directory


def checkpoint(directory: RunDirectory, shard: int = 0) -> Path:
    return directory.checkpoints / f"{shard:06d}.checkpoint"


def past(records: Records, shard: int) -> bytes:
    """Return what the checkpoint has, read in two pieces."""
    head = records.past(shard, 0, 7)
    return head + records.past(shard, len(head), 1 << 20)


def stored(records: Records, *groups: Group) -> list[Arrived]:
    """Store groups; returns what is to be told of each."""
    answers = records.store([*groups])
    assert len(answers) == len(groups)
    return [answer for answer in answers if isinstance(answer, Arrived)]


def test_groups_lie_where_they_say_and_are_told_in_their_order(directory: RunDirectory) -> None:
    records = Records(directory)
    assert past(records, 0) == b""
    told = records.store(
        [
            Group(4, 0, 0, b"head "),
            Told(["a line"]),
            Group(5, 1, 0, b"other "),
            Group(4, 0, 5, b"one "),
            Group(4, 0, 9, b"two"),
        ]
    )
    assert told == [Arrived(4, 0, 5), Arrived(5, 1, 6), Arrived(4, 0, 9), Arrived(4, 0, 12)]
    assert (past(records, 0), past(records, 1)) == (b"head one two", b"other ")


def test_a_group_that_begins_before_the_end_takes_the_place_of_what_is_there(directory: RunDirectory) -> None:
    records = Records(directory)
    records.store([Group(0, 0, 0, b"head one torn tail that is long")])
    assert records.store([Group(1, 0, 9, b"two")]) == [Arrived(1, 0, 12)]
    assert past(records, 0) == b"head one two"
    assert records.store([Group(2, 0, 0, b"new")]) == [Arrived(2, 0, 3)]
    assert past(records, 0) == b"new"


@given(
    groups=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=40)), min_size=1, max_size=12),
    rounds=st.integers(1, 4),
)
@settings(max_examples=25, deadline=None)
def test_a_checkpoint_is_what_its_groups_make_of_it_however_they_come(
    tmp_path_factory: pytest.TempPathFactory, groups: list[tuple[float, bytes]], rounds: int
) -> None:
    expected = b""
    items = []
    for part, data in groups:
        start = int(part * len(expected))
        items.append(Group(0, 7, start, data))
        expected = expected[:start] + data
    with RunDirectory.open(tmp_path_factory.mktemp("groups") / "run") as directory:
        records = Records(directory)
        told = [
            each for first in range(0, len(items), rounds) for each in records.store([*items[first : first + rounds]])
        ]
        assert told == [Arrived(0, 7, item.start + len(item.data)) for item in items]
        assert past(records, 7) == expected


@pytest.mark.parametrize("there", [None, b"", b"short"])
def test_a_group_behind_a_gap_is_not_written(directory: RunDirectory, there: bytes | None) -> None:
    records = Records(directory)
    if there is not None:
        checkpoint(directory).write_bytes(there)
    [told] = stored(records, Group(0, 0, 10, b"data"))
    assert told.problem is not None
    assert str(checkpoint(directory)) in told.problem
    assert "\n" not in told.problem
    assert past(records, 0) == (there or b"")
    assert checkpoint(directory).exists() == (there is not None)


def test_what_is_told_to_be_there_is_on_the_disk(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []  # inodes, with what they held
    held: list[bytes] = []

    def spy(real: Callable[[int], None]) -> Callable[[int], None]:
        def sync(fd: int) -> None:
            real(fd)
            synced.append(os.fstat(fd).st_ino)
            place = Path(f"/proc/self/fd/{fd}")
            held.append(place.read_bytes() if place.is_file() else b"")

        return sync

    monkeypatch.setattr(durable, "sync_data", spy(durable.sync_data))
    monkeypatch.setattr(durable, "sync_file", spy(durable.sync_file))
    records = Records(directory)
    records.store([Group(0, 0, 0, b"head ")])
    assert (synced[-1], held[-1]) == (checkpoint(directory).stat().st_ino, b"head ")
    records.store([Group(0, 0, 5, b"one")])
    assert (synced[-1], held[-1]) == (checkpoint(directory).stat().st_ino, b"head one")
    records.store([Whole(3, b"sealed")])
    assert (synced[-1], held[-1]) == ((directory.sealed / "000003.sealed").stat().st_ino, b"sealed")
    count = len(synced)
    records.store([Board(2, b"cells")])
    assert len(synced) == count  # it only counts


def test_a_sync_that_fails_is_told_and_leaves_what_was_there(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Records(directory)
    records.store([Group(0, 0, 0, b"head ")])

    def fails(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(durable, "sync_data", fails)
    monkeypatch.setattr(durable, "sync_file", fails)
    first, second = stored(records, Group(0, 0, 5, b"one"), Group(0, 1, 0, b"another"))
    assert "Input/output error" in str(first.problem)
    assert "Input/output error" in str(second.problem)
    assert (past(records, 0), past(records, 1)) == (b"head ", b"")
    assert [path.name for path in directory.checkpoints.iterdir()] == ["000000.checkpoint"]


def test_a_full_disk_is_told_and_leaves_what_was_there(small_disk: Path) -> None:
    with RunDirectory.open(small_disk / "run") as directory:
        records = Records(directory)
        records.store([Group(0, 0, 0, b"head ")])
        appended, replaced, later = stored(
            records, Group(0, 0, 5, bytes(1 << 20)), Group(0, 1, 0, bytes(1 << 20)), Group(0, 2, 0, b"small")
        )
        assert "No space left" in str(appended.problem)
        assert "No space left" in str(replaced.problem)
        assert later.problem is None
        assert (past(records, 0), past(records, 1), past(records, 2)) == (b"head ", b"", b"small")
        with pytest.raises(MachineError, match="No space left"):
            records.store([Whole(3, bytes(1 << 20))])
        records.store([Board(1, bytes(1 << 20))])
        assert [path.name for path in directory.sealed.iterdir()] == []
        assert directory.boards() == []


def test_sealed_shards_and_boards_lie_where_the_supervisor_looks_for_them(directory: RunDirectory) -> None:
    records = Records(directory)
    assert records.store([Whole(12, b"first"), Whole(12, b"sealed"), Board(7, b"cells"), Board(7, b"later")]) == []
    assert (directory.sealed / "000012.sealed").read_bytes() == b"sealed"
    assert directory.board_path(7).read_bytes() == b"later"
    assert directory.boards() == [directory.board_path(7)]


def test_a_sealed_shard_in_pieces_appears_with_its_last_one(directory: RunDirectory) -> None:
    records = Records(directory)
    path = directory.sealed / "000003.sealed"
    # The first node is gone half way; another one begins anew, while other shards come, too.
    records.store([Whole(3, b"of the first", last=False), Whole(3, b" node", 12, last=False)])
    records.store([Whole(3, b"seal", last=False)])
    records.store([Whole(4, b"another"), Whole(3, b"ed ", 4, last=False)])
    assert not path.exists()
    records.store([Whole(3, b"shard", 7)])
    assert path.read_bytes() == b"sealed shard"
    assert sorted(each.name for each in directory.sealed.iterdir()) == ["000003.sealed", "000004.sealed"]


def test_of_a_sealed_shard_that_lacks_a_piece_nothing_stays(directory: RunDirectory) -> None:
    records = Records(directory)
    records.store([Whole(3, b"seal", last=False)])
    with pytest.raises(MachineError, match="write the sealed shard"):
        records.store([Whole(3, b"shard", 7)])
    assert [*directory.sealed.iterdir()] == []


def test_what_is_written_is_as_private_as_the_run(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path / "run") as directory:
        Records(directory).store([Group(0, 0, 0, b"x"), Whole(0, b"x"), Board(0, b"x")])
        made = [checkpoint(directory), directory.sealed / "000000.sealed", directory.board_path(0)]
        assert [path.stat().st_mode & 0o777 for path in made] == [0o600] * 3


def test_parts_of_the_input_are_read(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"0123456789")
    assert Records.read(str(path), 3, 4) == b"3456"
    assert Records.read(str(path), 8, 4) == b"89"
