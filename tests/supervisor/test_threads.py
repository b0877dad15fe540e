"""The mailbox wakes the loop from anywhere; the two threads hand over what they have, and stop when told."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest

from rowmill.core.errors import InputError, MachineError, RunDirectoryError
from rowmill.core.rows import Shard
from rowmill.core.wire import Failure
from rowmill.files.output.jsonl import Lines
from rowmill.store import durable
from rowmill.store.checkpoint import Checkpoint
from rowmill.store.output_lines import failure_line
from rowmill.store.seal import Sealed
from rowmill.supervisor.mailbox import Crashed, Mailbox, Planned
from rowmill.supervisor.threads import MergeThread, Planner
from rowmill.transport import faults

SEAL = Callable[..., tuple[Path, Sealed]]


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox()
    yield box
    box.close()


def is_woken(mailbox: Mailbox, seconds: float) -> bool:
    """Wait as the supervisor does."""
    sources: list[Any] = [mailbox]
    woken: list[Any] = wait(sources, seconds)
    return woken == [mailbox]


def is_readable(mailbox: Mailbox) -> bool:
    return is_woken(mailbox, 0)


def receive(mailbox: Mailbox, count: int) -> list[Any]:
    """Take so many items, waiting as the supervisor does."""
    items: list[Any] = []
    while len(items) < count:
        assert is_woken(mailbox, 20), f"{count - len(items)} more were expected after {items}"
        items += mailbox.take()
    return items


# The mailbox


def test_an_item_makes_the_mailbox_readable_until_it_is_taken(mailbox: Mailbox) -> None:
    assert not is_readable(mailbox)
    assert mailbox.take() == []
    mailbox.put("a")
    mailbox.put("b")
    assert is_readable(mailbox)
    assert mailbox.take() == ["a", "b"]
    assert not is_readable(mailbox)
    assert mailbox.take() == []


def test_a_loop_that_waits_is_woken_by_a_signal_handler(mailbox: Mailbox) -> None:
    before = signal.signal(signal.SIGUSR1, lambda number, _: mailbox.put(signal.Signals(number)))
    try:
        sender = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        sender.start()
        assert is_woken(mailbox, 20)
        assert mailbox.take() == [signal.SIGUSR1]
        sender.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_signal_in_the_middle_of_a_put_or_a_take_loses_nothing(mailbox: Mailbox) -> None:
    count = 0

    def note(number: int, _frame: object) -> None:
        nonlocal count
        count += 1
        mailbox.put("signal")

    before = signal.signal(signal.SIGALRM, note)
    taken = []
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
        while count < 200:
            mailbox.put("item")
            taken += mailbox.take()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    taken += mailbox.take()
    assert taken.count("signal") == count


def test_more_wake_ups_than_a_pipe_holds_neither_block_nor_get_lost(mailbox: Mailbox) -> None:
    for number in range(100_000):
        mailbox.put(number)
    assert mailbox.take() == list(range(100_000))
    assert not is_readable(mailbox)


def test_items_of_many_threads_all_arrive_each_threads_in_order(mailbox: Mailbox) -> None:
    def fill(thread: int) -> None:
        for number in range(2000):
            mailbox.put((thread, number))

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    items = receive(mailbox, 8000)
    for thread in threads:
        thread.join()
    for number in range(4):
        assert [item for item in items if item[0] == number] == [(number, n) for n in range(2000)]


# The planner


class SlowInput:
    """An input on a disk that gives the first shard at once and the others when it is allowed to."""

    def __init__(self, shards: int, error: Exception | None = None, spooled: tuple[str, ...] = ()) -> None:
        self.may_go_on = threading.Event()
        self.closed = False
        self._shards = shards
        self._error = error
        self._spooled = spooled

    def plan(
        self, spool: Path, *, shard_bytes: int, shard_rows: int, progress: Callable[[int], None]
    ) -> Iterator[Shard]:
        assert (shard_bytes, shard_rows) == (50, 1000)
        try:
            for number in range(self._shards):
                if number > 0:
                    assert self.may_go_on.wait(20)
                    if self._error is not None:
                        raise self._error
                progress(50 * (number + 1))
                yield Shard(number, 5 * number, 5, 50 * number, 50 * number + 50, 0)
        finally:
            self.closed = True

    def spooled(self, spool: Path) -> list[Path]:
        return [spool / name for name in self._spooled]


def plan(found: Any, mailbox: Mailbox, spool: Path = Path()) -> Planner:
    return Planner(found, spool, 50, 1000, mailbox)


def test_the_first_shard_is_handed_over_before_the_input_is_read(mailbox: Mailbox) -> None:
    found = SlowInput(40)
    planner = plan(found, mailbox)
    (first,) = receive(mailbox, 1)
    assert isinstance(first, Planned)
    assert [shard.number for shard in first.shards] == [0]
    assert not first.last
    assert planner.read_bytes == 50
    found.may_go_on.set()
    shards = list(first.shards)
    planned = first
    while not planned.last:
        for planned in receive(mailbox, 1):
            assert isinstance(planned, Planned)
            shards += planned.shards
    assert [shard.number for shard in shards] == list(range(40))
    assert planner.read_bytes == 2000
    planner.stop()
    assert found.closed
    assert mailbox.take() == []


def test_an_empty_input_is_planned_at_once(mailbox: Mailbox) -> None:
    planner = plan(SlowInput(0), mailbox)
    (planned,) = receive(mailbox, 1)
    assert planned.shards == []
    assert planned.last
    planner.stop()


def test_what_was_spooled_is_on_the_disk_before_the_plan_has_its_end(
    tmp_path: Path, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(durable, "sync_path", lambda path: synced.append(f"{path.name} {len(mailbox.take())}"))
    planner = plan(SlowInput(0, spooled=("0.jsonl", "1.jsonl")), mailbox, tmp_path)
    (planned,) = receive(mailbox, 1)
    assert planned.last
    assert synced == ["0.jsonl 0", "1.jsonl 0"]
    planner.stop()


def test_a_planner_that_is_stopped_early_reads_no_further_and_calls_no_shard_the_last(mailbox: Mailbox) -> None:
    found = SlowInput(40)
    planner = plan(found, mailbox)
    receive(mailbox, 1)
    stopper = threading.Thread(target=planner.stop)
    stopper.start()
    while not planner._stopped:  # the order has been given; only now may the disk answer
        stopper.join(0.001)
    found.may_go_on.set()
    stopper.join(20)
    assert not stopper.is_alive()
    assert planner.read_bytes <= 100
    assert [item.last for item in mailbox.take()] in ([], [False])


def test_what_the_disk_does_to_the_planner_reaches_the_loop(mailbox: Mailbox) -> None:
    error = OSError(5, "Input/output error")
    found = SlowInput(40, error)
    planner = plan(found, mailbox)
    found.may_go_on.set()
    items = receive(mailbox, 2)
    assert isinstance(items[-1], Crashed)
    assert items[-1].error is error
    planner.stop()


# The merger


@pytest.fixture
def seal(tmp_path: Path) -> SEAL:
    """Seal a shard of so many rows, all of them failed where asked."""

    def make(number: int, rows: int, *, failed: bool = False) -> tuple[Path, Sealed]:
        shard = Shard(number, number * 10, rows, number * 100, number * 100 + 100, 0)

        async def run() -> Sealed:
            checkpoint = await Checkpoint.open(tmp_path / f"{number}.checkpoint", shard)
            for index in range(shard.first_row, shard.first_row + rows):
                line = b'{"index":%d}' % index
                if failed:
                    line = failure_line(index, b"null", Failure(fault=faults.BAD_REPLY, message="m"), b"")
                checkpoint.append(index, attempts=1, requests=1, ms=1, provider="p", line=line, failed=failed)
            await checkpoint.commit()
            sealed = await checkpoint.seal(tmp_path, Lines())
            await checkpoint.close()
            return sealed

        return tmp_path / f"{number:06d}.sealed", asyncio.run(run())

    return make


@pytest.fixture
def merger(tmp_path: Path, mailbox: Mailbox) -> Iterator[MergeThread]:
    (tmp_path / "to").mkdir()
    thread = MergeThread(tmp_path / "to" / "out.jsonl", tmp_path / "to" / "errors.jsonl", mailbox, Lines())
    yield thread
    thread.stop()


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_shards_are_merged_as_they_come_and_finished_on_order(
    tmp_path: Path, seal: SEAL, merger: MergeThread, mailbox: Mailbox
) -> None:
    merger.append(*seal(0, 3))
    (merged,) = receive(mailbox, 1)
    assert (merged.shards, merged.sizes) == (1, None)
    assert not (tmp_path / "to" / "out.jsonl").exists(), "an output that is there is whole"
    merger.append(*seal(1, 2))
    merger.finish()
    assert [(merged.shards, merged.sizes) for merged in receive(mailbox, 2)] == [(2, None), (2, (62, 0))]
    output = (tmp_path / "to" / "out.jsonl").read_bytes()
    assert output == b"".join(b'{"index":%d}\n' % index for index in (0, 1, 2, 10, 11))
    merger.stop()
    assert left_in(tmp_path / "to") == ["out.jsonl"]
    assert mailbox.take() == []


def test_sizes_are_noted_before_the_output_appears(
    tmp_path: Path, seal: SEAL, merger: MergeThread, mailbox: Mailbox
) -> None:
    seen: list[tuple[int, int, bool]] = []
    merger.append(*seal(0, 3))
    merger.finish(lambda output, errors: seen.append((output, errors, (tmp_path / "to" / "out.jsonl").exists())))
    assert receive(mailbox, 2)[-1].sizes == (36, 0)
    assert seen == [(36, 0, False)]
    assert (tmp_path / "to" / "out.jsonl").stat().st_size == 36


def test_what_cannot_be_noted_reaches_the_loop_and_nothing_appears(
    tmp_path: Path, seal: SEAL, merger: MergeThread, mailbox: Mailbox
) -> None:
    error = MachineError("cannot write the manifest")

    def note(_output: int, _errors: int) -> None:
        raise error

    merger.append(*seal(0, 3))
    merger.finish(note)
    crashed = receive(mailbox, 2)[-1]
    assert isinstance(crashed, Crashed)
    assert crashed.error is error
    merger.stop()
    assert left_in(tmp_path / "to") == []


def test_failed_rows_make_an_errors_file(tmp_path: Path, seal: SEAL, merger: MergeThread, mailbox: Mailbox) -> None:
    merger.append(*seal(0, 2, failed=True))
    merger.finish()
    merged = receive(mailbox, 2)[-1]
    assert merged.failures == {"bad_reply": 2}
    assert merged.sizes == tuple((tmp_path / "to" / name).stat().st_size for name in ("out.jsonl", "errors.jsonl"))
    assert merged.sizes[1] > 0


def test_a_merger_that_is_stopped_leaves_nothing(
    tmp_path: Path, seal: SEAL, merger: MergeThread, mailbox: Mailbox
) -> None:
    merger.append(*seal(0, 3))
    receive(mailbox, 1)
    assert left_in(tmp_path / "to") != []
    merger.stop()
    assert left_in(tmp_path / "to") == []
    merger.stop()  # again: nothing happens


def test_a_merger_that_is_stopped_over_a_backlog_publishes_no_part(
    tmp_path: Path, seal: SEAL, merger: MergeThread, mailbox: Mailbox
) -> None:
    merger._stopped = True  # as stop() leaves it, while all of this still waits
    merger.append(*seal(0, 3))
    merger.finish()
    merger.stop()
    assert mailbox.take() == []
    assert left_in(tmp_path / "to") == []


def test_a_shard_out_of_order_is_a_defect_that_reaches_the_loop(
    tmp_path: Path, seal: SEAL, merger: MergeThread, mailbox: Mailbox
) -> None:
    merger.append(*seal(1, 1))
    (crashed,) = receive(mailbox, 1)
    assert isinstance(crashed, Crashed)
    assert isinstance(crashed.error, ValueError)
    merger.append(*seal(0, 1))  # nobody listens any more, and nobody waits
    merger.stop()
    assert left_in(tmp_path / "to") == []


def test_a_sealed_shard_that_lost_its_end_stops_the_merge_with_what_to_do(
    tmp_path: Path, seal: SEAL, merger: MergeThread, mailbox: Mailbox
) -> None:
    path, sealed = seal(0, 3)
    os.truncate(path, 20)
    merger.append(path, sealed)
    (crashed,) = receive(mailbox, 1)
    assert isinstance(crashed.error, RunDirectoryError)
    assert "run the same command again" in str(crashed.error)


def test_two_mergers_of_one_output_are_refused_where_the_second_is_made(
    tmp_path: Path, merger: MergeThread, mailbox: Mailbox
) -> None:
    with pytest.raises(InputError, match="another run is writing"):
        MergeThread(tmp_path / "to" / "out.jsonl", tmp_path / "to" / "other.jsonl", mailbox, Lines())
    assert merger is not None
