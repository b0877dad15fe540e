import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from subprocess import PIPE, Popen
from sys import executable

import pytest

from rowmill.core.errors import ConfigError
from rowmill.store.cache import kept_replies as module
from rowmill.store.cache.kept_replies import Replies, prepare


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def rows(start: int, end: int, size: int = 20) -> list[tuple[bytes, bytes]]:
    return [(key(number), (b"%d " % number).ljust(size, b"x")) for number in range(start, end)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    assert prepare(tmp_path / "a" / "cache") == 0
    return tmp_path / "a" / "cache"


@pytest.fixture
def store(place: Path) -> Iterator[Replies]:
    with closing(Replies(place, 100)) as replies:
        yield replies


def found(store: Replies, start: int, end: int) -> dict[bytes, bytes]:
    return {each: data for each, (_, data) in store.get([key(number) for number in range(start, end)]).items()}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 511, 512, 513, 1300])
def test_what_is_kept_is_found_again_and_nothing_else(store: Replies, count: int) -> None:
    assert store.put(rows(0, count))
    assert found(store, 0, count) == dict(rows(0, count))
    assert found(store, count, count + 5) == {}


def test_later_runs_and_other_workers_find_it(place: Path, store: Replies) -> None:
    store.put(rows(0, 10))
    with closing(Replies(place, 100)) as other:
        assert found(other, 0, 10) == dict(rows(0, 10))
    assert prepare(place) == 10


def test_serials_tell_what_was_there_before(place: Path, store: Replies) -> None:
    store.put(rows(0, 10))
    floor = prepare(place)
    store.put(rows(5, 15))
    serials = {each: serial for each, (serial, _) in store.get([key(number) for number in range(15)]).items()}
    assert [serials[key(number)] <= floor for number in range(15)] == [True] * 10 + [False] * 5


def test_a_reply_that_is_there_stays(store: Replies) -> None:
    store.put([(key(1), b"first")])
    store.put([(key(1), b"second"), (key(2), b"other")])
    assert found(store, 1, 3) == {key(1): b"first", key(2): b"other"}


def test_the_oldest_give_way_and_the_file_keeps_its_bound(place: Path) -> None:
    with closing(Replies(place, 1)) as store:
        for start in range(0, 6000, 100):
            assert store.put(rows(start, start + 100, size=500))
            newest = found(store, start, start + 100)
            assert newest == dict(rows(start, start + 100, size=500))
        kept = sorted(found(store, 0, 6000))
    assert (place / "replies.sqlite").stat().st_size <= 1 << 20
    assert kept == [key(number) for number in range(6000 - len(kept), 6000)]
    assert len(kept) > 1000  # of 500 bytes in 1 MiB


def test_a_smaller_bound_than_before_is_kept_to(place: Path) -> None:
    with closing(Replies(place, 10)) as store:
        store.put(rows(0, 6000, size=500))
    with closing(Replies(place, 1)) as store:
        store.put(rows(6000, 6001, size=500))
        assert len(found(store, 0, 6000)) < 2000
        assert found(store, 6000, 6001)


def test_what_would_fill_the_store_by_itself_is_left_out(place: Path) -> None:
    with closing(Replies(place, 1)) as store:
        assert store.put([(key(1), bytes(2 << 20)), (key(2), b"small")])
        assert found(store, 1, 3) == {key(2): b"small"}
        assert store.problem is None


def test_another_versions_store_is_refused_with_what_to_do(place: Path) -> None:
    with closing(sqlite3.connect(place / "replies.sqlite")) as connection:
        connection.execute(f"PRAGMA user_version = {module.FORMAT + 1}")
    with pytest.raises(ConfigError) as caught:
        prepare(place)
    assert str(caught.value) == (
        f"cache.dir: {place}/replies.sqlite is a reply cache of version 2, and this is version 1: "
        "set another cache.dir or delete the file"
    )


def test_another_programs_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"is no reply cache of Rowmill: set another cache\.dir"):
        prepare(tmp_path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite"
    path.write_bytes(b"my notes\n" * 1000)
    with pytest.raises(ConfigError, match=r"is no reply cache .*: set another cache\.dir or delete the file"):
        prepare(tmp_path)
    assert path.read_bytes() == b"my notes\n" * 1000


def test_a_place_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"cache\.dir: cannot use .*file/cache.*: set another cache\.dir"):
        prepare(tmp_path / "file" / "cache")


def test_damage_found_on_the_way_ends_the_cache_not_the_run(place: Path) -> None:
    with closing(Replies(place, 100)) as store:
        store.put(rows(0, 2000, size=500))
    path = place / "replies.sqlite"
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    with closing(Replies(place, 100)) as store:
        assert found(store, 0, 2000) == {}
        assert store.problem is not None
        assert "is not used any more" in store.problem
        assert not store.put(rows(0, 1))


def test_readers_do_not_wait_for_a_writer_and_a_writer_gives_up_in_time(
    place: Path, store: Replies, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(rows(0, 10))
    monkeypatch.setattr(module, "_WRITE_S", 0.05)
    with closing(Replies(place, 100)) as other, closing(sqlite3.connect(place / "replies.sqlite")) as holder:
        holder.execute("BEGIN IMMEDIATE")
        assert found(other, 0, 10) == dict(rows(0, 10))
        assert not other.put(rows(10, 20))
        assert other.problem is None
        holder.rollback()
        assert other.put(rows(10, 20))


def test_a_group_is_written_by_few_statements(store: Replies) -> None:
    """Each asks for the interpreter's lock once or twice, and may wait 5 ms for it: see the module's docstring."""
    statements: list[str] = []
    assert store._writer is not None
    store._writer.set_trace_callback(statements.append)
    store.put(rows(0, 511, size=300))
    assert len(statements) < 30
    assert found(store, 510, 511)


WRITER = """
import sys
from pathlib import Path
from rowmill.store.cache.kept_replies import Replies
store = Replies(Path(sys.argv[1]), 1)
number = int(sys.argv[2])
print("writing", flush=True)
while True:
    store.put([(each.to_bytes(16, "big"), b"%d " % each + b"x" * 400) for each in range(number, number + 150)])
    assert store.problem is None, store.problem
    number += 150
    print(number, flush=True)
"""


def _line(process: "Popen[bytes]") -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def test_kills_of_writers_lose_nothing_committed_and_damage_nothing(place: Path) -> None:
    """Two processes write at once, past the bound, and are killed at any moment, three times over."""
    for life in range(3):
        starts = [(2 * life + who) * 1_000_000 for who in (0, 1)]
        writers = [Popen([executable, "-c", WRITER, place, str(start)], stdout=PIPE) for start in starts]
        seen = [[_line(writer) for _ in range(3 + 2 * life)] for writer in writers]
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        lines = [earlier + writer.communicate()[0].splitlines() for earlier, writer in zip(seen, writers, strict=True)]
        prepare(place)
        with closing(Replies(place, 1)) as store:
            newest = [found(store, end - 50, end) for end in (int(each[-1]) for each in lines)]
            assert any(newest)  # of the two, one may have been pushed out by the other
            for answers in newest:
                for each, data in answers.items():
                    assert data.startswith(b"%d " % int.from_bytes(each, "big"))
            assert store.problem is None
        with closing(sqlite3.connect(place / "replies.sqlite")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
