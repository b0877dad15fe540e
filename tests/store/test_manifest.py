"""The manifest, what changed since it, and the frozen plan."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowmill.core.errors import MachineError, RunDirectoryError
from rowmill.core.rows import InputFile, Shard
from rowmill.core.version import __version__
from rowmill.store import manifest
from rowmill.store.framing import framed

MakeShard = Callable[..., Shard]


@pytest.fixture
def made() -> manifest.Manifest:
    return manifest.Manifest(
        run_id="a1",
        created="2026-01-01T00:00:00+00:00",
        fingerprint={"task.model": "m", "task.params": {"temperature": 0.5}, "input.crc": 7},
        input=[InputFile("in.jsonl", 1000, 123456789)],
        shard_bytes=1 << 20,
        shard_rows=1000,
    )


def test_what_was_saved_reads_back(tmp_path: Path, made: manifest.Manifest) -> None:
    path = tmp_path / "manifest.json"
    manifest.save(path, made)
    assert manifest.load(path) == made
    made.finished = manifest.Finished("out.jsonl", 10, None, 0, "2026-01-02T00:00:00+00:00")
    manifest.save(path, made)
    assert manifest.load(path) == made
    assert made.rowmill_version == __version__
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("parts", [False, True])
def test_an_output_that_was_moved_with_its_run_directory_is_where_it_lies_now(
    tmp_path: Path, made: manifest.Manifest, parts: bool
) -> None:
    def output(folder: Path) -> Path:
        folder.mkdir()
        path = folder / "out"
        if parts:
            path.mkdir()
        (path / "part-0" if parts else path).write_bytes(b"0123456789")
        return path

    now = output(tmp_path / "now")
    path = tmp_path / "now" / "out.run" / "manifest.json"
    path.parent.mkdir()
    before = tmp_path / "before"
    made.finished = manifest.Finished(str(before / "out"), 10, str(before / "out.errors"), 3, "2026-01-02T00:00:00Z")
    manifest.save(path, made)
    found = manifest.load(path)
    assert found is not None
    assert found.finished == msgspec.structs.replace(
        made.finished, output=str(now), errors=str(tmp_path / "now" / "out.errors")
    )
    (now / "part-0" if parts else now).write_bytes(b"of somebody")
    assert manifest.load(path) == made, "another file that is called so"
    (now / "part-0" if parts else now).write_bytes(b"0123456789")
    output(before)
    assert manifest.load(path) == made, "a copy of a run whose output is where it was"


def test_where_there_is_none_none_is_read(tmp_path: Path) -> None:
    assert manifest.load(tmp_path / "absent") is None
    assert manifest.load_plan(tmp_path / "absent") is None


def test_another_format_is_refused_with_the_version_that_made_it(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text('{"format": 9, "rowmill_version": "9.1", "everything": "else is new"}')
    with pytest.raises(RunDirectoryError, match=r"format 9, made by Rowmill 9\.1; this is Rowmill .* resume with that"):
        manifest.load(path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 2}', "\0" * 40, '{"format": "x"}'])
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content)
    with pytest.raises(RunDirectoryError, match=r"the manifest .*manifest.json is damaged"):
        manifest.load(path)


def test_saving_on_a_full_disk_keeps_the_old_manifest(small_disk: Path, made: manifest.Manifest) -> None:
    path = small_disk / "manifest.json"
    manifest.save(path, made)
    changed = msgspec.structs.replace(made, fingerprint={"task.prompt": "x" * 300_000})
    with pytest.raises(MachineError, match="free disk space"):
        manifest.save(path, changed)
    assert manifest.load(path) == made


def test_a_plan_reads_back(tmp_path: Path, shard: MakeShard) -> None:
    shards = [shard(10, 10 * number, number) for number in range(50)]
    manifest.save_plan(tmp_path / "plan", shards)
    assert manifest.load_plan(tmp_path / "plan") == shards
    manifest.save_plan(tmp_path / "plan", [])
    assert manifest.load_plan(tmp_path / "plan") == []


def test_a_damaged_plan_is_refused(tmp_path: Path, shard: MakeShard) -> None:
    path = tmp_path / "plan"
    manifest.save_plan(path, [shard(10)])
    data = path.read_bytes()
    flipped = data.replace(b"1000", b"1001")
    for broken in (b"", data[:-1], data[1:], flipped, framed(b"{}"), framed(b'{"rowmill":9,"shards":[]}'), data + data):
        assert broken != data
        path.write_bytes(broken)
        with pytest.raises(RunDirectoryError, match=r"the plan .*plan is damaged or of another format"):
            manifest.load_plan(path)


def test_differences_are_one_line_for_each_key() -> None:
    old = {"task.model": "a", "task.api": "chat", "task.system": "s", "n": 1}
    new = {"task.model": "b", "task.api": "chat", "n": 1.5, "task.params": {"t": 1}}
    assert manifest.differences(old, new) == [
        'task.model: "a" -> "b"',
        'task.system: "s" -> not set',
        "n: 1 -> 1.5",
        'task.params: not set -> {"t":1}',
    ]


def test_the_order_of_members_is_no_difference() -> None:
    assert manifest.differences({"p": {"a": 1, "b": 2}}, {"p": {"b": 2, "a": 1}}) == []


def test_a_long_value_is_cut_down_to_where_it_differs() -> None:
    (line,) = manifest.differences({"p": "x" * 500 + "cat" + "y" * 500}, {"p": "x" * 500 + "dog" + "y" * 500})
    before, after = line.removeprefix("p: ").split(" -> ")
    assert "xxcatyy" in before
    assert "xxdogyy" in after
    assert max(len(before), len(after)) <= 86


@given(value=st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=50))
def test_any_changed_value_shows_as_two_different_texts_on_one_line(value: Any) -> None:
    (line,) = manifest.differences({"k": value}, {"k": [value, "more"]})
    before, after = line.removeprefix("k: ").split(" -> ", 1) if line.count(" -> ") == 1 else ("", "-")
    assert before != after
    assert "\n" not in line
    assert manifest.differences({"k": value}, {"k": value}) == []
