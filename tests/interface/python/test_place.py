"""Where a `map` keeps its run: nothing of others is written over, and only what was paid for is kept unasked."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from rowmill.core.errors import RunDirectoryError
from rowmill.core.interrupts import Interrupts, interrupted_by
from rowmill.core.rows import Shard
from rowmill.interface.python.place import MapPlace, map_place
from rowmill.store import manifest as manifests
from rowmill.store.run_directory import RunDirectory

ROWS = [b'{"text":"a"}\n', b'{"text":"b"}\n']


def begun(path: Path) -> MapPlace:
    """Write the rows, and do what a run does first."""
    place = MapPlace(path, kept=True)
    assert place.write(ROWS) == 2
    (place.run / "manifest.json").write_text("{}")
    return place


def test_the_same_rows_are_written_once(tmp_path: Path) -> None:
    place = begun(tmp_path / "new" / "deep")
    written = place.rows.stat()
    assert place.write(iter(ROWS)) == 2
    assert place.rows.read_bytes() == b"".join(ROWS)
    assert os.path.samestat(place.rows.stat(), written)
    assert place.rows.stat().st_mtime_ns == written.st_mtime_ns


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([ROWS[0], b'{"text":"c"}\n'], "row 1 is another"),
        ([ROWS[1], *ROWS], "row 0 is another"),
        (ROWS[:1], "row 1 is missing"),
        ([], "row 0 is missing"),
    ],
)
def test_other_rows_are_refused_and_the_first_ones_stay(tmp_path: Path, rows: list[bytes], said: str) -> None:
    place = begun(tmp_path)
    with pytest.raises(RunDirectoryError, match=f"{said}. Name another run_dir"):
        place.write(rows)
    assert place.rows.read_bytes() == b"".join(ROWS)


MORE = [b'{"text":"c"}\n', b'{"text":"d"}\n', b'{"text":"e"}\n']
PLAN = [Shard(0, 0, len(ROWS), 0, sum(map(len, ROWS)), 0)]


def test_rows_that_come_behind_are_written_behind_the_others(tmp_path: Path) -> None:
    place = begun(tmp_path)
    assert place.write([*ROWS, *MORE]) == 5
    assert place.rows.read_bytes() == b"".join([*ROWS, *MORE])
    with pytest.raises(RunDirectoryError, match="row 3 is another"):  # a run without a plan may have asked any of them
        place.write([*ROWS, MORE[0], MORE[2]])
    with pytest.raises(RunDirectoryError, match="row 4 is missing"):
        place.write([*ROWS, *MORE[:2]])
    assert place.rows.read_bytes() == b"".join([*ROWS, *MORE])


@pytest.mark.parametrize("rows", [[*ROWS, *MORE[1:]], [*ROWS, *MORE], [*ROWS, MORE[0]], ROWS])
@pytest.mark.parametrize("cut", [0, 5])
def test_rows_behind_the_planned_ones_give_way_to_others(tmp_path: Path, rows: list[bytes], cut: int) -> None:
    """A call brought them and was refused, or killed as it wrote one: nobody has asked them."""
    place = begun(tmp_path)
    manifests.save_plan(RunDirectory(place.run).plan, PLAN)
    there = b"".join([*ROWS, *MORE[:2]])
    place.rows.write_bytes(there[: len(there) - cut])
    assert place.write(rows) == len(rows)
    assert place.rows.read_bytes() == b"".join(rows)
    with pytest.raises(RunDirectoryError, match="row 1 is another"):
        place.write([ROWS[0], MORE[0]])


def test_what_the_rows_themselves_raise_is_not_told_of_the_disk(tmp_path: Path) -> None:
    def rows() -> Iterator[bytes]:
        yield ROWS[0]
        raise PermissionError(13, "Permission denied", "mine.csv")

    for place in (MapPlace(tmp_path / "new", kept=True), begun(tmp_path / "begun")):
        with pytest.raises(PermissionError, match=r"mine\.csv"):
            place.write(rows())


def test_rows_that_no_run_has_begun_with_are_written_anew(tmp_path: Path) -> None:
    def cut() -> Iterator[bytes]:
        yield ROWS[1]
        raise KeyError

    place = MapPlace(tmp_path, kept=True)
    with pytest.raises(KeyError):
        place.write(cut())
    assert place.write(ROWS) == 2
    assert place.rows.read_bytes() == b"".join(ROWS)


def test_rows_of_a_new_run_are_there_before_the_one_before_goes_aside(tmp_path: Path) -> None:
    place = begun(tmp_path / "kept")
    place.let_go()
    aside = tmp_path / "kept.old"
    with suppress(KeyError), place.beside() as new:
        new.write(MORE)
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    with place.beside() as new:
        new.write(MORE)
        place.move_aside(lambda: place.path.rename(aside))
        place.take(new.rows)
    assert place.rows.read_bytes() == b"".join(MORE)
    assert (aside / "rows.jsonl").read_bytes() == b"".join(ROWS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "kept.old"]
    other = MapPlace(place.path, kept=True)
    (place.run / "manifest.json").write_text("{}")
    with pytest.raises(RunDirectoryError, match="in use by another call"):
        other.move_aside(lambda: None)
    with other.beside() as new, other.beside() as second:
        new.write(ROWS)
        with pytest.raises(RunDirectoryError, match="in use by another call"):
            second.write(ROWS)


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("mine")
    with pytest.raises(RunDirectoryError, match="not empty; name another run_dir"):
        MapPlace(tmp_path, kept=True).write(ROWS)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("rows.jsonl", "mine")]


@pytest.mark.parametrize("worth", [True, False])
def test_a_place_that_nobody_named_is_kept_only_for_its_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worth: bool
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def broken_off() -> MapPlace:
        with suppress(KeyError), map_place(None) as place:
            place.write(ROWS)
            place.holds_answers = worth
            raise KeyError
        return place

    place = broken_off()
    assert place.rows.exists() == worth
    assert not place.kept


def test_a_place_whose_result_is_awaited_is_removed_once_somebody_has_it() -> None:
    interrupts = Interrupts()
    with interrupted_by(interrupts), map_place(None) as place:
        place.write(ROWS)
    assert interrupts.left is not None
    assert str(place.path) in interrupts.left.where
    assert place.rows.exists()
    interrupts.left.remove()
    assert not place.path.exists()


def test_a_file_is_no_place(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    with pytest.raises(RunDirectoryError, match="kept is no directory; name another run_dir"):
        MapPlace(tmp_path / "kept", kept=True).write(ROWS)


def test_one_call_at_a_time_has_a_place(tmp_path: Path) -> None:
    """Rows of two that begin at once would lie over each other, before the run itself is locked."""
    with map_place(tmp_path / "kept") as place:
        place.write(ROWS)
        with (
            pytest.raises(RunDirectoryError, match=r"kept is in use by another call in process .*: wait for it"),
            map_place(tmp_path / "kept") as other,
        ):
            other.write(ROWS[:1])
        assert place.rows.read_bytes() == b"".join(ROWS)
    with map_place(tmp_path / "kept") as place:
        assert place.write(ROWS) == 2


def test_a_named_place_is_kept(tmp_path: Path) -> None:
    with map_place(tmp_path) as place:
        place.write(ROWS)
    assert place.rows.exists()
