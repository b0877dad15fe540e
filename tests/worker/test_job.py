"""A row's states: which moves there are, that no other is possible, and how a row and a shard tell where they are."""

import asyncio
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest

from rowmill.core.rows import Shard
from rowmill.store.checkpoint import Checkpoint
from rowmill.transport import faults
from rowmill.worker import job as module
from rowmill.worker.job import DONE, FOLLOWING, IN_FLIGHT, READY, Job, OpenShard, RowState
from rowmill.worker.packs import packed, repacked

STATES: tuple[RowState, ...] = get_args(RowState)


class Main:
    number = 0
    name = "main"


def row(index: int = 3, **more: Any) -> Job:
    return Job(index, b"{}", 2, None, **more)  # type: ignore[arg-type]  # nobody here looks at the shard


def test_what_is_tried_again_once_at_most_ends_a_row_the_second_time_whatever_came_between() -> None:
    one = row()
    empty, other = faults.TABLE["empty_reply"], faults.TABLE["server_error"]
    assert [one.ends_with(fault) for fault in (other, other, empty, other)] == [False] * 4
    assert [one.ends_with(fault) for fault in (empty, other, empty)] == [True, False, True]


def test_a_pack_has_waited_since_its_first_row_was_read() -> None:
    pack = packed([row(3, started=5.0), row(4, started=6.0)])
    assert (pack.started, pack.size) == (5.0, 4)
    assert repacked(pack, pack.members or [], 1)[0].started == 5.0


def test_every_state_has_its_moves_and_can_be_reached() -> None:
    assert set(module._MOVES) == set(STATES)
    reached = {"ready"}
    for _ in STATES:
        reached |= {after for before in reached for after in module._MOVES[before]}  # type: ignore[index]
    assert reached == set(STATES)
    assert not module._MOVES["done"], "a recorded row is recorded"


@pytest.mark.parametrize(("before", "after"), [*product(STATES, STATES)])
def test_a_move_is_made_or_refused_the_same_way_with_and_without_a_call(before: RowState, after: RowState) -> None:
    called, looked_up = row(state=before), row(state=before)
    quick = {"ready": READY, "following": FOLLOWING, "in flight": IN_FLIGHT, "done": DONE}.get(after)
    if after in module._MOVES[before]:
        called.become(after)
        assert called.state == after
        assert quick is None or quick[before] == after
        return
    with pytest.raises(ValueError, match=rf"^row 3 cannot go from {before} to {after}$"):
        called.become(after)
    assert called.state == before
    if quick is not None:
        with pytest.raises(ValueError, match=rf"^a row cannot go from {before} to {after}$"):
            looked_up.state = quick[looked_up.state]


def test_a_row_tells_where_it_is() -> None:
    assert repr(row()) == "<row 3: ready>"
    assert repr(row(state="waiting", provider=Main(), requests=3, attempts=2)) == (
        "<row 3: waiting at main, 3 sent, 2 failed>"
    )


def test_rows_of_a_pack_are_packed_until_they_are_recorded() -> None:
    rows = [row(index) for index in range(4)]
    pack = packed(rows)
    assert repr(pack) == "<pack of rows [0, 1, 2, 3]: ready>"
    assert {each.state for each in rows} == {"packed"}
    pack.become("in flight")
    halves = repacked(pack, rows, 2)
    assert [repr(half) for half in halves] == ["<pack of rows [0, 1]: ready>", "<pack of rows [2, 3]: ready>"]
    assert pack.state == "done"
    with pytest.raises(ValueError, match=r"^row 0 cannot go from done to done$"):
        repacked(pack, rows, 2)


async def opened(folder: Path) -> OpenShard:
    shard = Shard(5, 50, 10, 500, 600, 0)
    return OpenShard(shard, await Checkpoint.open(folder / "5.checkpoint", shard), frozenset(), frozenset())


def test_a_shard_is_sealed_once(tmp_path: Path) -> None:
    async def story() -> None:
        shard = await opened(tmp_path)
        assert repr(shard) == "<shard 5: open, 0 of 10 rows>"
        shard.become("sealing")
        with pytest.raises(ValueError, match=r"^shard 5 cannot go from sealing to sealing$"):
            shard.become("sealing")
        shard.become("sealed")
        assert repr(shard) == "<shard 5: sealed, 0 of 10 rows>"
        await shard.checkpoint.close()

    asyncio.run(story())
