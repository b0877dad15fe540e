"""The ordered merge, finished at once or not at all."""

import errno
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.errors import InputError, MachineError, RunDirectoryError
from rowmill.core.rows import Shard
from rowmill.files.output.jsonl import Lines
from rowmill.store import durable
from rowmill.store.merge import Merger
from rowmill.store.output_lines import error_line, failed_row
from rowmill.store.seal import Sealed, read_sealed

Line = Callable[..., bytes]
MakeShard = Callable[..., Shard]
Seal = Callable[..., Sealed]
Start = Callable[..., "subprocess.Popen[str]"]

MERGE = """
import sys
from pathlib import Path
from rowmill.files.output.jsonl import Lines
from rowmill.store.merge import Merger
from rowmill.store.seal import read_sealed, seal_name
place, count = Path(sys.argv[1]), int(sys.argv[2])
merger = Merger(place / "output", place / "errors", Lines())
for number in range(count):
    path = place / seal_name(number)
    merger.append(path, read_sealed(path))
    print(number, flush=True)
    if str(number) == sys.argv[3]:
        sys.stdin.read()  # until the kill
print("finishing", flush=True)
merger.finish()
print("finished", flush=True)
"""


def merge(place: Path, shards: int) -> Merger:
    merger = Merger(place / "output", place / "errors", Lines())
    for number in range(shards):
        path = place / f"{number:06d}.sealed"
        sealed = read_sealed(path)
        assert sealed is not None
        merger.append(path, sealed)
    return merger


@settings(max_examples=15, deadline=None)  # each example makes and syncs real files
@given(sizes=st.lists(st.integers(0, 6), max_size=4), failed=st.frozensets(st.integers(0, 20)))
def test_any_shards_merge_to_all_lines_in_input_order(
    shard: MakeShard, seal: Seal, line: Line, sizes: list[int], failed: frozenset[int]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        rows = sum(sizes)
        for number, size in enumerate(sizes):
            seal(place, shard(size, sum(sizes[:number]), number), failed=failed)
        output = b"".join(line(index, failed=index in failed) + b"\n" for index in range(rows))
        errors = b"".join(error_line(failed_row(line(i, failed=True)), 2) + b"\n" for i in range(rows) if i in failed)
        merger = merge(place, len(sizes))
        assert merger.finish() == (len(output), len(errors))
        assert sum(merger.failures.values()) == errors.count(b"\n")
        assert (place / "output").read_bytes() == output
        assert ((place / "errors").read_bytes() if errors else b"") == errors
        assert (place / "errors").exists() == bool(errors)
        assert not list(place.glob(".*"))


def test_sizes_are_told_when_all_is_on_the_disk_and_nothing_has_its_name(
    tmp_path: Path, shard: MakeShard, seal: Seal
) -> None:
    sealed = seal(tmp_path, shard(3), failed=frozenset({1}))
    merger = merge(tmp_path, 1)
    told = []

    def note(output_bytes: int, error_bytes: int) -> None:
        told.append((output_bytes, error_bytes))
        assert not (tmp_path / "output").exists()
        assert not (tmp_path / "errors").exists()
        assert (tmp_path / ".output.rowmill-part").stat().st_size == output_bytes

    assert merger.finish(note) == (sealed.output_bytes, sealed.error_bytes)
    assert told == [(sealed.output_bytes, sealed.error_bytes)]


def test_the_errors_file_has_its_name_before_the_output(
    tmp_path: Path, shard: MakeShard, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(tmp_path, shard(3), failed=frozenset({1}))
    merger = merge(tmp_path, 1)
    published: list[str] = []
    publish = durable.publish

    def note(temporary: Path, path: Path) -> None:
        publish(temporary, path)
        published.append(path.name)

    monkeypatch.setattr(durable, "publish", note)
    merger.finish()
    assert published == ["errors", "output"]


@pytest.mark.parametrize("name", ["errors", "output"])
def test_where_a_name_cannot_be_given_no_output_is_there_without_its_errors_file(
    tmp_path: Path, shard: MakeShard, seal: Seal, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    seal(tmp_path, shard(3), failed=frozenset({1}))
    merger = merge(tmp_path, 1)
    publish = durable.publish

    def refuse(temporary: Path, path: Path) -> None:
        if path.name == name:
            raise OSError(errno.EROFS, "Read-only file system")
        publish(temporary, path)

    monkeypatch.setattr(durable, "publish", refuse)
    with pytest.raises(MachineError, match=f"cannot write .*/{name}"):
        merger.finish()
    merger.abandon()
    assert not (tmp_path / "output").exists()
    assert (tmp_path / "errors").exists() == (name == "output")


def test_what_cannot_be_noted_is_not_published(tmp_path: Path, shard: MakeShard, seal: Seal) -> None:
    seal(tmp_path, shard(3), failed=frozenset({1}))
    merger = merge(tmp_path, 1)

    def note(_output: int, _errors: int) -> None:
        raise MachineError("cannot write the manifest")

    with pytest.raises(MachineError):
        merger.finish(note)
    merger.abandon()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.checkpoint", "000000.sealed"]


def test_a_shard_of_another_format_is_a_defect(tmp_path: Path, shard: MakeShard, seal: Seal) -> None:
    sealed = msgspec.structs.replace(seal(tmp_path, shard(2)), format="csv:1")
    merger = Merger(tmp_path / "output", tmp_path / "errors", Lines())
    with pytest.raises(ValueError, match="sealed as csv:1, not as jsonl"):
        merger.append(tmp_path / "000000.sealed", sealed)
    merger.abandon()


def test_targets_appear_only_at_the_end(tmp_path: Path, shard: MakeShard, seal: Seal) -> None:
    (tmp_path / "output").write_bytes(b"old")
    seal(tmp_path, shard(3), failed=frozenset({1}))
    merger = merge(tmp_path, 1)
    assert (tmp_path / "output").read_bytes() == b"old"
    assert not (tmp_path / "errors").exists()
    merger.finish()
    assert (tmp_path / "output").read_bytes().count(b"\n") == 3
    assert (tmp_path / "errors").read_bytes().count(b"\n") == 1


def test_what_a_killed_merge_left_is_not_in_the_output(tmp_path: Path, shard: MakeShard, seal: Seal) -> None:
    for name in (".output.rowmill-part", ".errors.rowmill-part"):
        (tmp_path / name).write_bytes(b"left\n" * 10_000)
    sealed = seal(tmp_path, shard(3), failed=frozenset({1}))
    merge(tmp_path, 1).finish()
    assert (tmp_path / "output").stat().st_size == sealed.output_bytes
    assert (tmp_path / "errors").stat().st_size == sealed.error_bytes


def test_abandoning_leaves_the_targets_and_nothing_else(tmp_path: Path, shard: MakeShard, seal: Seal) -> None:
    (tmp_path / "output").write_bytes(b"old")
    seal(tmp_path, shard(3))
    merger = merge(tmp_path, 1)
    merger.abandon()
    merger.abandon()
    assert (tmp_path / "output").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.checkpoint", "000000.sealed", "output"]


def test_abandoning_after_the_finish_does_nothing(tmp_path: Path, shard: MakeShard, seal: Seal) -> None:
    seal(tmp_path, shard(3))
    merger = merge(tmp_path, 1)
    merger.finish()
    merger.abandon()
    assert (tmp_path / "output").read_bytes().count(b"\n") == 3


def test_an_old_errors_file_is_emptied_when_no_row_failed(tmp_path: Path, shard: MakeShard, seal: Seal) -> None:
    (tmp_path / "errors").write_bytes(b"failures of an earlier finish\n")
    seal(tmp_path, shard(3))
    merge(tmp_path, 1).finish()
    assert (tmp_path / "errors").read_bytes() == b""


def test_shards_out_of_order_are_a_defect(tmp_path: Path, shard: MakeShard, seal: Seal) -> None:
    seal(tmp_path, shard(2))
    second = seal(tmp_path, shard(2, 2, 1))
    merger = Merger(tmp_path / "output", tmp_path / "errors", Lines())
    with pytest.raises(ValueError, match="shard 1 given where 0 is next"):
        merger.append(tmp_path / "000001.sealed", second)
    merger.abandon()


def test_a_sealed_file_shorter_than_its_footer_said_is_refused(tmp_path: Path, shard: MakeShard, seal: Seal) -> None:
    sealed = seal(tmp_path, shard(3), failed=frozenset({1}))
    path = tmp_path / "000000.sealed"
    data = path.read_bytes()
    for length in (sealed.output_bytes - 5, sealed.output_bytes + sealed.error_bytes - 5):
        path.write_bytes(data[:length])
        merger = Merger(tmp_path / "output", tmp_path / "errors", Lines())
        with pytest.raises(RunDirectoryError, match=r"000000\.sealed is 5 bytes shorter"):
            merger.append(path, sealed)
        merger.abandon()


@pytest.mark.parametrize("offset", [0, 10, -10])
def test_a_sealed_file_that_was_changed_is_refused(tmp_path: Path, shard: MakeShard, seal: Seal, offset: int) -> None:
    sealed = seal(tmp_path, shard(3), failed=frozenset({1}))
    path = tmp_path / "000000.sealed"
    data = bytearray(path.read_bytes())
    data[offset if offset >= 0 else sealed.output_bytes + sealed.error_bytes + offset] ^= 1
    path.write_bytes(data)
    merger = Merger(tmp_path / "output", tmp_path / "errors", Lines())
    with pytest.raises(RunDirectoryError, match=r"000000\.sealed is damaged: .* Move it out of the run directory"):
        merger.append(path, sealed)
    merger.abandon()


def test_an_output_that_was_replaced_while_it_was_made_is_not_given_the_name(
    tmp_path: Path, shard: MakeShard, seal: Seal
) -> None:
    sealed = seal(tmp_path, shard(3))
    merger = Merger(tmp_path / "output", tmp_path / "errors", Lines())
    merger.append(tmp_path / "000000.sealed", sealed)
    part = tmp_path / ".output.rowmill-part"
    part.unlink()
    part.write_bytes(b"somebody else's")
    with pytest.raises(MachineError, match="was replaced; put back what was moved"):
        merger.finish()
    assert not (tmp_path / "output").exists()
    merger.abandon()


def test_two_runs_with_one_output_do_not_mix(tmp_path: Path) -> None:
    first = Merger(tmp_path / "output", tmp_path / "errors", Lines())
    with pytest.raises(InputError, match=r"another run is writing .*/output"):
        Merger(tmp_path / "output", tmp_path / "errors2", Lines())
    with pytest.raises(InputError, match=r"another run is writing .*/errors"):
        Merger(tmp_path / "output2", tmp_path / "errors", Lines())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".errors.rowmill-part", ".output.rowmill-part"]
    first.finish()
    Merger(tmp_path / "output", tmp_path / "errors", Lines()).abandon()


def test_a_linked_output_stays_a_link(tmp_path: Path, shard: MakeShard, seal: Seal) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "output").symlink_to("elsewhere/real")
    seal(tmp_path, shard(3))
    merge(tmp_path, 1).finish()
    assert (tmp_path / "output").is_symlink()
    assert (tmp_path / "elsewhere" / "real").read_bytes().count(b"\n") == 3


def test_a_full_disk_ends_the_merge_and_leaves_the_old_output(
    tmp_path: Path, small_disk: Path, shard: MakeShard, seal: Seal
) -> None:
    (small_disk / "output").write_bytes(b"old")
    sealed = seal(tmp_path, shard(20), text="x" * 20_000)
    merger = Merger(small_disk / "output", small_disk / "errors", Lines())
    with pytest.raises(MachineError, match="No space left on device; free disk space"):
        merger.append(tmp_path / "000000.sealed", sealed)
    merger.abandon()
    assert [path.name for path in small_disk.iterdir()] == ["output"]
    assert (small_disk / "output").read_bytes() == b"old"


@pytest.mark.parametrize("old", [None, b"old output\n"], ids=["no output before", "an old output"])
def test_killed_at_any_moment_the_output_is_the_old_one_or_the_whole_new_one(
    tmp_path: Path, shard: MakeShard, seal: Seal, child: Start, old: bytes | None
) -> None:
    count = 6
    for number in range(count):
        seal(tmp_path, shard(20, 20 * number, number), failed=frozenset({7}), text="x" * 20_000)
    merge(tmp_path, count).finish()
    output, errors = (tmp_path / "output").read_bytes(), (tmp_path / "errors").read_bytes()
    seen = set()
    for last_words in ["0", "2", "5", *["finishing"] * 8, "finished"]:
        (tmp_path / "output").unlink(missing_ok=True)
        (tmp_path / "errors").unlink(missing_ok=True)
        if old is not None:
            (tmp_path / "output").write_bytes(old)
        process = child(MERGE, tmp_path, count, last_words)
        assert process.stdout is not None
        while process.stdout.readline().strip() != last_words:
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = (tmp_path / "output").read_bytes() if (tmp_path / "output").exists() else None
        assert found in (old, output)
        if found == output:
            assert (tmp_path / "errors").read_bytes() == errors
        seen.add(found)
        merge(tmp_path, count).finish()  # the same command again
        assert (tmp_path / "output").read_bytes() == output
        assert (tmp_path / "errors").read_bytes() == errors
    assert seen == {old, output}
