"""The whole way of real rows: from an input through batches into sealed shards, with a provider in memory."""

import gc
from pathlib import Path
from typing import Any

import pytest

from rowmill.core.config import Config
from rowmill.core.config.sections import InputConfig, OutputConfig, TaskConfig
from rowmill.worker.batch.files import BatchFiles
from tests.worker.batch.provider_in_memory import Life, answered
from tests.worker.batch.run_on_disk import RunOnDisk, texts
from tests.worker.batch.world import Killed, Session, World

LIVES = (Life(2.0, 8.0, 2.0, end="expired", done=0.5), Life(2.0, 8.0, 2.0))


def reply(request: dict[str, Any]) -> dict[str, Any]:
    response = answered(request)
    response["body"]["choices"][0]["message"]["content"] = request["body"]["messages"][-1]["content"].upper()
    return response


def world_of(folder: Path) -> tuple[World, RunOnDisk]:
    folder.mkdir()
    disk = RunOnDisk(folder, texts(30))
    world = World(folder, 30, *LIVES, max_requests=12)
    world.provider.answer = reply
    config = Config(
        input=InputConfig(path=str(folder / "in.jsonl"), id="id"),
        output=OutputConfig(path=str(folder / "out.jsonl")),
        task=TaskConfig(model="m", prompt="{text}"),
        batch=world.config,
    )

    def files_for(session: Session) -> BatchFiles:
        process = disk.process()
        waiting = iter(process.shards.added)
        process.shards.added, process.shards.no_more = [], False
        process.want = lambda: process.shards.assigned(next(waiting, None))
        return BatchFiles(
            shards=process.shards, config=config, reservations=session.reservations, ask_model=None, secrets=()
        )

    world.files_for = files_for
    return world, disk


# A file that a thread opens for a task that is no more is closed by its end.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_rows_go_through_batches_into_sealed_shards_and_kills_change_nothing(tmp_path: Path) -> None:
    world, disk = world_of(tmp_path / "whole")
    assert world.ends() is None
    output, points = disk.output(), len(world.points)
    assert len(output) == 30
    assert world.last is not None
    assert repr(world.last.files) == "<BatchFiles <ShardAccess 3 shards, sealed [0, 1, 2], open none>>"
    assert [b"QUESTION %d" % number in line for number, line in enumerate(output)] == [True] * 30
    assert world.asked_once
    for kill in range(5, points, points // 12):
        world, disk = world_of(tmp_path / str(kill))
        for at in (kill, kill + 7):
            world.kill_at = at
            assert isinstance(world.ends(), Killed | None)
        world.kill_at = -1
        assert world.ends() is None
        assert disk.output() == output
        assert world.asked_once
    gc.collect()
