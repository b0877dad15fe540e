"""The journal of batches: what can follow what, and what is left of it after a crash at any byte."""

import errno
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.amounts import Amount, Spent
from rowmill.core.errors import ExitCode, MachineError, RunDirectoryError
from rowmill.store import durable
from rowmill.store.batch_journal import BatchJournal, Try
from rowmill.store.batch_records import MOVES, OPEN, doubtful
from rowmill.store.framing import framed

RUN = "run-1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "batches" / "journal"


def build(
    journal: BatchJournal,
    part: int = 0,
    number: int = 1,
    *,
    now: float = 100.0,
    asked_to: int | None = None,
    counted_from: int = 1,
) -> Try:
    t = Try(
        part=part,
        number=number,
        first_row=part * 10,
        end_row=part * 10 + 10,
        requests=4,
        rows=8,
        size=1234,
        crc=0xC0FFEE,
        tokens=567,
        reserved=Amount(4.0, 1000.0, 0.5),
        asked_to=part * 10 + 10 if asked_to is None else asked_to,
        counted_from=counted_from,
        since=now,
    )
    return journal.built(t)


STEPS: dict[str, Callable[[BatchJournal, Try, float], None]] = {
    "uploading": lambda journal, t, now: journal.uploading(t, now),
    "uploaded": lambda journal, t, now: journal.uploaded(t, f"file-{now}", now),
    "creating": lambda journal, t, now: journal.creating(t, now),
    "created": lambda journal, t, now: journal.created(t, f"batch-{now}", now - 1, now),
    "rejected": lambda journal, t, now: journal.rejected(t, "token_limit_exceeded", now),
    "cancelling": lambda journal, t, now: journal.cancelling(t, now),
    "ended": lambda journal, t, now: journal.ended(t, "expired", "out", None, now),
    "collected": lambda journal, t, now: journal.collected(t, Spent(4, 9, 1, 5), Spent(1, 2, 0, 1), 6, 1, 1, now),
    "given_up": lambda journal, t, now: journal.given_up(t, "stuck", now),
}
WAY = {  # a way to each phase
    "built": [],
    "uploading": ["uploading"],
    "uploaded": ["uploading", "uploaded"],
    "creating": ["uploading", "uploaded", "creating"],
    "created": ["uploading", "uploaded", "creating", "created"],
    "ended": ["uploading", "uploaded", "creating", "created", "ended"],
    "collected": ["uploading", "uploaded", "creating", "created", "ended", "collected"],
    "given_up": ["given_up"],
}


FOLLOWS = {
    "built": {"uploading", "given_up"},
    "uploading": {"uploading", "uploaded", "given_up"},
    "uploaded": {"uploading", "creating", "given_up"},
    "creating": {"uploading", "creating", "created", "given_up"},
    "created": {"rejected", "cancelling", "ended", "given_up"},
    "ended": {"collected", "given_up"},
    "collected": set(),
    "given_up": set(),
}


def bring(journal: BatchJournal, phase: str, part: int = 0) -> Try:
    t = build(journal, part)
    for now, event in enumerate(WAY[phase], 101):
        STEPS[event](journal, t, float(now))
    assert t.phase == phase
    return t


def create_often(journal: BatchJournal, t: Try) -> None:
    for _ in range(20):
        journal.creating(t, 200.0)


def snapshot(tries: dict[tuple[int, int], Try]) -> bytes:
    return msgspec.json.encode([tries[key] for key in sorted(tries)])


def tries_of(path: Path) -> list[Try]:
    """Read the journal, whoever has it open."""
    return list(BatchJournal.read(path).tries.values())


def test_a_try_from_its_file_to_its_answers(path: Path) -> None:
    journal = BatchJournal.open(path, RUN)
    t = build(journal)
    assert (t.phase, t.since, t.creations) == ("built", 100.0, 0)
    journal.uploading(t, 101.0)
    journal.uploaded(t, "file-1", 102.0)
    journal.creating(t, 103.0)
    journal.created(t, "batch-1", 99.5, 104.0)
    journal.cancelling(t, 105.0)
    assert (t.phase, t.since, t.cancelling) == ("created", 104.0, True)
    journal.ended(t, "cancelled", None, "errors-1", 106.0)
    spent = Spent(4, 40, 4, 20)
    journal.collected(t, spent, Spent(), 3, 1, 4, 107.0)
    spent.add(Spent(1, 1, 1, 1))
    expected = Try(
        part=0,
        number=1,
        first_row=0,
        end_row=10,
        requests=4,
        rows=8,
        size=1234,
        crc=0xC0FFEE,
        tokens=567,
        reserved=Amount(4.0, 1000.0, 0.5),
        asked_to=10,
        counted_from=1,
        phase="collected",
        since=107.0,
        file_id="file-1",
        batch_id="batch-1",
        status="cancelled",
        output_file_id=None,
        error_file_id="errors-1",
        creations=1,
        created_at=99.5,
        cancelling=True,
        spent=Spent(4, 40, 4, 20),
        answered=3,
        failed=1,
        left=4,
    )
    assert t == expected
    journal.close()
    journal.close()
    assert tries_of(path) == [expected]
    assert BatchJournal.open(path, RUN).tries == {(0, 1): expected}


def test_a_rejected_batch_leaves_its_file_for_another_one(path: Path) -> None:
    journal = BatchJournal.open(path, RUN)
    t = bring(journal, "created")
    file_id = t.file_id
    journal.cancelling(t, 105.0)
    journal.rejected(t, "token_limit_exceeded", 106.0)
    assert (t.phase, t.file_id, t.batch_id, t.created_at, t.cancelling) == ("uploaded", file_id, None, None, False)
    assert t.reason == "token_limit_exceeded"
    journal.creating(t, 107.0)
    assert t.creations == 2


def test_an_upload_that_is_done_again_forgets_the_file(path: Path) -> None:
    journal = BatchJournal.open(path, RUN)
    t = bring(journal, "creating")
    journal.uploading(t, 105.0)
    assert (t.phase, t.file_id) == ("uploading", None)


@pytest.mark.parametrize("phase", list(WAY))
def test_only_what_the_table_allows_can_follow(path: Path, phase: str) -> None:
    allowed = set()
    for event, step in STEPS.items():
        journal = BatchJournal.open(path.with_name(event), RUN)
        t = bring(journal, phase)
        before, size = snapshot(journal.tries), path.with_name(event).stat().st_size
        if phase in MOVES[event][0]:
            step(journal, t, 200.0)
            allowed.add(event)
            assert t.phase == (MOVES[event][1] or phase)
        else:
            with pytest.raises(ValueError, match=f"^try 1 of part 0 cannot be '{event}': it is '{phase}'$"):
                step(journal, t, 200.0)
            assert snapshot(journal.tries) == before
            assert path.with_name(event).stat().st_size == size
        journal.close()
    assert allowed == FOLLOWS[phase]


def test_a_part_has_one_try_at_a_time(path: Path) -> None:
    journal = BatchJournal.open(path, RUN)
    with pytest.raises(ValueError, match="part 0 has no try 2"):
        build(journal, number=2)
    first = bring(journal, "ended")
    with pytest.raises(ValueError, match="before its try 1 is done with"):
        build(journal, number=2)
    journal.collected(first, Spent(), Spent(), 0, 0, 8, 200.0)
    with pytest.raises(ValueError, match="cannot be 'built': it is 'collected'"):
        build(journal)
    second = build(journal, number=2)
    other = bring(journal, "uploading", part=1)
    assert journal.current() == [second, other]
    journal.given_up(second, "the batch is gone", 201.0)
    assert (second.left, second.reason) == (8, "the batch is gone")
    with pytest.raises(ValueError, match="has the rows 0 to 10"):
        journal.built(msgspec.structs.replace(second, number=3, end_row=11, phase="built"))
    assert journal.current() == [second, other]


def test_only_batches_that_ran_to_their_end_count_and_as_far_as_they_asked(path: Path) -> None:
    journal = BatchJournal.open(path, RUN)
    statuses = {1: "completed", 2: "expired", 3: None, 4: "completed", 5: "completed"}
    for number, status in statuses.items():
        t = build(journal, number=number, asked_to=10 - number)
        if status is None:
            journal.given_up(t, "stuck", 101.0)
            continue
        for event in ("uploading", "uploaded", "creating", "created"):
            STEPS[event](journal, t, 101.0)
        journal.ended(t, status, "out", None, 102.0)
        journal.collected(t, Spent(), Spent(), 0, 0, 8, 103.0, [number])
    journal.close()
    journal = BatchJournal.open(path, RUN)
    assert journal.once(build(journal, number=6)) == {1, 2, 4, 5}
    assert journal.once(build(journal, number=6, counted_from=5)) == {5}
    assert journal.earlier(build(journal, number=6)) == [5, 6, 9]
    assert journal.earlier(build(journal, number=6, counted_from=5)) == [5]
    assert journal.earlier(build(journal, number=6, counted_from=6)) == []


def test_a_file_that_was_lost_before_it_went_out_is_built_again(path: Path) -> None:
    journal = BatchJournal.open(path, RUN)
    lost = build(journal)
    again = build(journal, now=101.0)
    assert journal.current() == [again]
    assert again.since == 101.0
    with pytest.raises(ValueError, match="not of this journal"):
        journal.uploading(lost, 102.0)
    assert tries_of(path) == [again]


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, str]]:
    """Draw steps of two parts, each allowed where it stands."""
    phases: dict[int, str] = {}
    steps = []
    for _ in range(draw(st.integers(1, 12))):
        part = draw(st.integers(0, 1))
        phase = phases.get(part, "")
        if phase and phase not in OPEN:
            phase = ""  # its next try
        events = [event for event, (allowed, _) in MOVES.items() if phase in allowed]
        event = draw(st.sampled_from(events))
        phases[part] = MOVES[event][1] or phase
        steps.append((part, event))
    return steps


@settings(max_examples=30, deadline=None)
@given(histories(), st.data())
def test_cut_at_any_byte_it_is_as_it_was_after_one_of_its_steps(
    steps: list[tuple[int, str]], data: st.DataObject
) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "batches" / "journal"
        journal = BatchJournal.open(path, RUN)
        states = {path.stat().st_size: snapshot({})}
        for now, (part, event) in enumerate(steps):
            t = next((t for t in journal.current() if t.part == part), None)
            if event == "built":
                number = 1 if t is None else t.number + (t.phase not in OPEN)
                build(journal, part, number, now=float(now))
            else:
                assert t is not None
                STEPS[event](journal, t, float(now))
            states[path.stat().st_size] = snapshot(journal.tries)
        journal.close()
        whole = path.read_bytes()
        cut = data.draw(st.integers(min(states), len(whole)))
        nonsense = data.draw(st.sampled_from([b"", b"\0" * 40, b"x\n\n", b"deadbeef {}\n"]))
        path.write_bytes(whole[:cut] + nonsense)
        kept = max(size for size in states if size <= cut)
        assert snapshot({(t.part, t.number): t for t in tries_of(path)}) == states[kept]
        assert path.read_bytes() == whole[:cut] + nonsense  # reading changes nothing

        again = BatchJournal.open(path, RUN)
        assert snapshot(again.tries) == states[kept]
        assert path.stat().st_size == kept
        fresh = build(again, part=7)
        again.uploading(fresh, 1.0)
        again.close()
        assert tries_of(path)[-1] == fresh


def test_damage_before_the_tail_is_refused(path: Path) -> None:
    journal = BatchJournal.open(path, RUN)
    bring(journal, "created")
    journal.close()
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    last = len(whole) - len(lines[-1])
    for at in [0, 5, 12, *range(len(lines[0]), last, 97), last - 1]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        for read in (lambda at: BatchJournal.open(at, RUN), BatchJournal.read):
            with pytest.raises(RunDirectoryError, match=r"batches/journal is damaged at byte \d+: put it back"):
                read(path)
    assert len(path.read_bytes()) == len(whole)


@pytest.mark.parametrize("lost", [0, 1, 2, 3])
def test_a_lost_record_is_refused(path: Path, lost: int) -> None:
    journal = BatchJournal.open(path, RUN)
    bring(journal, "created")
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:lost] + lines[lost + 1 :]))
    with pytest.raises(RunDirectoryError, match="is damaged at byte"):
        BatchJournal.open(path, RUN)


def test_a_lost_record_of_another_part_is_refused(path: Path) -> None:
    journal = BatchJournal.open(path, RUN)
    for part in range(3):
        build(journal, part)
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1] + lines[3])
    with pytest.raises(RunDirectoryError, match="is damaged at byte"):
        BatchJournal.open(path, RUN)


def test_a_step_that_the_try_could_not_take_is_refused(path: Path) -> None:
    journal = BatchJournal.open(path, RUN)
    t = bring(journal, "uploaded")
    journal.close()
    t.phase = "created"
    with path.open("ab") as file:
        file.write(framed(b'{"step":4,"event":"created","try":%b}' % msgspec.json.encode(t)))
    with pytest.raises(RunDirectoryError, match="is damaged at byte"):
        BatchJournal.open(path, RUN)


@pytest.mark.parametrize("data", [b"", b"\n", b"\0" * 100])
def test_a_file_that_is_no_journal_is_refused(path: Path, data: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(RunDirectoryError, match="is damaged at byte 0"):
        BatchJournal.open(path, RUN)


def test_another_run_and_another_format_are_refused(path: Path) -> None:
    BatchJournal.open(path, RUN).close()
    with pytest.raises(RunDirectoryError, match=r"the journal of another run \(run-1\)") as refused:
        BatchJournal.open(path, "run-2")
    assert refused.value.exit_code is ExitCode.RUN_DIRECTORY
    path.write_bytes(framed(b'{"rowmill":1,"batches":"run-1"}'))
    with pytest.raises(RunDirectoryError, match="has format 1, this version reads"):
        BatchJournal.read(path)


def test_where_there_is_no_journal_there_are_no_tries(path: Path) -> None:
    assert tries_of(path) == []
    assert not path.parent.exists()


def test_a_journal_that_is_only_read_writes_nothing_and_tells_the_newest_tries(path: Path) -> None:
    journal = BatchJournal.open(path, RUN)
    first = bring(journal, "given_up")
    second, other = build(journal, number=2), bring(journal, "created", part=1)
    before = path.read_bytes()
    reader = BatchJournal.read(path)
    assert (reader.read_only, journal.read_only) == (True, False)
    assert list(reader.tries.values()) == [first, second, other]
    assert reader.current() == [second, other]
    with pytest.raises(ValueError, match="the journal is only read, and part 1 is to be 'cancelling'"):
        reader.cancelling(reader.tries[1, 1], 200.0)
    with pytest.raises(ValueError, match="the journal is only read, and part 2 is to be 'built'"):
        build(reader, part=2)
    reader.close()
    assert (path.read_bytes(), reader.current()) == (before, [second, other])
    journal.cancelling(other, 201.0)
    journal.close()


def test_a_full_disk_leaves_what_was_acknowledged(small_disk: Path) -> None:
    path = small_disk / "batches" / "journal"
    journal = BatchJournal.open(path, RUN)
    t = bring(journal, "uploaded")
    before = snapshot(journal.tries)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(MachineError, match="free disk space"):
        create_often(journal, t)  # until the page that the file has is full
    creations = t.creations
    filler.unlink()
    with pytest.raises(MachineError, match="free disk space"):  # the object is done with, room or not
        journal.creating(t, 201.0)
    assert t.creations == creations
    journal.close()
    again = BatchJournal.open(path, RUN)
    assert again.tries == {(0, 1): t}
    assert creations or snapshot(again.tries) == before
    again.close()


def test_a_step_whose_sync_failed_was_not_taken(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = BatchJournal.open(path, RUN)
    t = bring(journal, "uploaded")
    before, size = snapshot(journal.tries), path.stat().st_size

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(durable, "sync_data", fail)
        with pytest.raises(MachineError, match=r"cannot write the batch journal .*journal: Input/output error"):
            journal.creating(t, 200.0)
    assert (snapshot(journal.tries), path.stat().st_size) == (before, size)
    with pytest.raises(MachineError, match="Input/output error"):
        journal.creating(t, 201.0)
    journal.close()
    with pytest.raises(MachineError, match="is closed"):
        journal.creating(t, 202.0)


def test_every_step_is_on_the_disk_before_it_returns(path: Path, child: Callable[..., "subprocess.Popen[str]"]) -> None:
    path.parent.parent.mkdir(exist_ok=True)
    writer = child(
        """
import sys
from pathlib import Path
from rowmill.core.amounts import Amount
from rowmill.store import durable
from rowmill.store.batch_journal import BatchJournal, Try
journal = BatchJournal.open(Path(sys.argv[1]), "run-1")
part = 0
while True:
    t = Try(part=part, number=1, first_row=part, end_row=part + 1, requests=1, rows=1, size=1, crc=1, tokens=1,
            reserved=Amount(), asked_to=part + 1, counted_from=1, since=1.0)
    journal.built(t)
    journal.uploading(t, 2.0)
    journal.uploaded(t, "file", 3.0)
    print(part, flush=True)
    part += 1
""",
        path,
    )
    assert writer.stdout is not None
    for expected in range(5):
        told = int(writer.stdout.readline())
        assert told == expected
        seen = [t for t in tries_of(path) if t.phase == "uploaded"]  # while it writes
        assert [t.part for t in seen][: told + 1] == list(range(told + 1))
    writer.kill()
    told = max([told, *map(int, writer.stdout.read().split())])
    journal = BatchJournal.open(path, RUN)
    assert [t.part for t in journal.current() if t.phase == "uploaded"][: told + 1] == list(range(told + 1))
    assert len(journal.tries) <= told + 3
    journal.close()


@pytest.mark.timed
def test_a_step_takes_milliseconds(path: Path) -> None:
    journal = BatchJournal.open(path, RUN)
    t = bring(journal, "uploaded")
    started = time.perf_counter()
    for now in range(20):
        journal.creating(t, float(now))
    assert (time.perf_counter() - started) / 20 < 0.1  # 1 to 2 ms where nothing else uses the disk
    journal.close()


def test_what_was_given_up_counts_as_reserved_until_others_show_what_requests_take(path: Path) -> None:
    journal = BatchJournal.open(path, RUN)
    for part in (0, 1):
        t = build(journal, part)
        for step in WAY["created"]:
            STEPS[step](journal, t, 101.0)
    given_up, other = journal.tries[0, 1], journal.tries[1, 1]
    journal.given_up(given_up, "stuck", 102.0)
    assert doubtful(journal.tries.values()) == Amount(4.0, 1000.0, 0.5)
    journal.ended(other, "completed", "out", None, 103.0)
    journal.collected(other, Spent(4, 200, 0, 50), Spent(), 8, 0, 0, 104.0)
    assert doubtful(journal.tries.values()) == Amount(4.0, 250.0, 0.125)
    journal.close()


def test_what_was_given_up_never_counts_as_more_than_was_reserved(path: Path) -> None:
    """Also where other batches took more than theirs."""
    journal = BatchJournal.open(path, RUN)
    given_up, other = bring(journal, "created"), bring(journal, "ended", part=1)
    journal.given_up(given_up, "stuck", 107.0)
    journal.collected(other, Spent(4, 1900, 0, 100), Spent(), 8, 0, 0, 108.0)
    assert doubtful(journal.tries.values()) == given_up.reserved == Amount(4.0, 1000.0, 0.5)
    journal.close()
