"""What docs/ARCHITECTURE.md shows is so: rooms, messages, states, records. And each decision has its page.

So are the tables of docs/troubleshooting.md: exit codes, fault classes, what slows a run down.
"""

import asyncio
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import msgspec
import pytest

import rowmill
from rowmill.core.errors import ExitCode
from rowmill.core.reports import Cause
from rowmill.core.rows import Shard
from rowmill.core.wire import FaultClass
from rowmill.ipc import messages
from rowmill.store import batch_records
from rowmill.store.checkpoint import Checkpoint
from rowmill.store.framing import unframed
from rowmill.store.run_directory import RunDirectory
from rowmill.supervisor import bottleneck, shards
from rowmill.transport import faults
from rowmill.worker import job
from scripts import rooms

PACKAGE = Path(rowmill.__file__).parent
DOCS = PACKAGE.parents[1] / "docs"
TEXT = (DOCS / "ARCHITECTURE.md").read_text(encoding="utf-8")
TROUBLE = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\w*\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
RECORDS = [line for block in BLOCKS for line in block.splitlines() if re.match(r"[0-9a-f]{8} ", line)]
DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))
PARTS = ["To be decided", "Measured", "Decided", "What it costs", "Look at it again"]
MOST_WORDS = 40


def table(*heads: str, text: str = TEXT) -> list[list[str]]:
    """Return the cells of the table with these heads, row by row."""
    heading = f"| {' | '.join(heads)} |\n"
    assert text.count(heading) == 1
    lines = text.partition(heading)[2].splitlines()[1:]
    end = next((place for place, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[:end]]


def listed(cell: str) -> set[str]:
    return {each for each in cell.split(", ") if each and each != "nothing"}


def coded(cells: Iterable[str]) -> set[str]:
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_the_rooms_and_their_floors_are_those_of_the_package() -> None:
    arrows = rooms.rooms_of(PACKAGE)
    shown = table("floor", "room", "may import", "what it is for")
    assert {room.strip("`"): listed(others) for _, room, others, _ in shown} == {
        room: set(others) for room, others in arrows.items()
    }
    assert {room.strip("`"): int(floor) for floor, room, *_ in shown} == rooms.floors(arrows)


@pytest.mark.parametrize(
    ("head", "union"),
    [("supervisor to worker", messages.ToWorker), ("worker to supervisor", messages.ToSupervisor)],
)
def test_the_messages_are_all_that_there_are(head: str, union: object) -> None:
    assert coded(row[0] for row in table(head, "means")) == {kind.__name__ for kind in get_args(union)}


def test_the_states_of_a_row_and_their_moves_are_those_of_a_job() -> None:
    shown = table("state", "where it is", "may become")
    assert {state: listed(after) for state, _, after in shown} == {
        state: set(after) for state, after in job._MOVES.items()
    }


def test_the_states_of_a_shard_and_their_moves_are_those_of_the_supervisor() -> None:
    assert {state: listed(after) for state, after in table("state", "may become")} == {
        state: set(after) for state, after in shards._MOVES.items()
    }


def test_every_phase_of_a_try_is_told() -> None:
    told = re.search(r"^The phases of a try .*?\n\n", TEXT, re.DOTALL | re.MULTILINE)
    assert told is not None
    assert [phase for phase in get_args(batch_records.Phase) if not re.search(rf"\b{phase}\b", told[0])] == []


def test_every_file_of_a_run_directory_is_told(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path / "run") as run:
        paths = {path for path in vars(run).values() if isinstance(path, Path)} | set(run.path.iterdir())
    told = coded(row[0] for row in table("file", "content", "durable"))
    names = {path.relative_to(run.path).as_posix() for path in paths - {run.path}}
    assert [name for name in sorted(names) if not any(f"{each}/".startswith(f"{name}/") for each in told)] == []


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record[:8])
def test_every_record_that_is_shown_is_a_valid_one(record: str) -> None:
    assert unframed(f"{record}\n".encode()) is not None


def test_the_checkpoint_that_is_shown_is_whole(tmp_path: Path) -> None:
    (block,) = [block for block in BLOCKS if '"group":0' in block]
    path = tmp_path / "000000.checkpoint"
    path.write_bytes(block.encode())
    shard = msgspec.json.decode(re.findall(r'"shard":(\[.*?\])', block)[0], type=Shard)

    async def look() -> tuple[bool, int, bytes]:
        checkpoint = await Checkpoint.open(path, shard)
        await checkpoint.close()
        return checkpoint.complete, checkpoint.cut_bytes, path.read_bytes()

    # Closing it adds nothing: it is proven to its end.
    assert asyncio.run(look()) == (True, 0, block.encode())


def test_the_glossary_is_short_and_has_each_word_once() -> None:
    shown = [word for row in table("word", "means") for word in row[0].split(", ")]
    assert len(table("word", "means")) <= MOST_WORDS
    assert len(set(shown)) == len(shown)


def test_every_exit_code_is_told_and_what_to_do() -> None:
    shown = table("exit code", "meaning", "what to do", text=TROUBLE)
    assert [int(code) for code, *_ in shown] == sorted(ExitCode)
    assert all(meaning and advice for _, meaning, advice in shown)


def tried_again(fault: FaultClass) -> str:
    """Return what the page says of a class: whether its rows are tried again, and whether that costs an attempt."""
    if fault.once:
        return "once"
    return "no" if not fault.retryable else "yes" if fault.spends_attempt else "free"


def test_every_fault_class_is_told_as_the_table_has_it_and_what_to_do() -> None:
    shown = table("class", "it is about", "tried again", "what it means", "what to do", text=TROUBLE)
    about = {"row": "the row", "provider": "the provider", "either": "either"}
    assert [row[:3] for row in shown] == [
        [f"`{name}`", about[fault.scope], tried_again(fault)] for name, fault in faults.TABLE.items()
    ]
    assert all(meaning and advice for *_, meaning, advice in shown)


def test_what_slows_a_run_down_is_told_in_the_words_of_its_view() -> None:
    source = inspect.getsource(bottleneck)
    shown = [words for words, _ in table("slowed by", "what helps", text=TROUBLE)]
    assert shown
    assert [words for words in shown if f'"{words}' not in source] == []
    assert len(shown) == len([cause for cause in get_args(Cause) if cause])


def test_decisions_are_numbered_and_listed_with_their_titles() -> None:
    shown = dict(table("number", "decision", text=(DOCS / "decisions" / "README.md").read_text(encoding="utf-8")))
    titles = {}
    for page in DECISIONS:
        title = page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        titles[title[:4]] = f"[{title[5:]}]({page.name})"
        assert page.name.startswith(f"{title[:4]}-")
    assert shown == titles
    assert [int(number) for number in titles] == list(range(1, len(titles) + 1))


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem[:4])
def test_a_decision_says_what_was_measured_what_it_costs_and_when_to_look_again(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^\*\*(.+?)\.?\*\*", text, re.MULTILINE) == PARTS
