"""A plan that goes on with an input that has grown: killed at any step, the next start finds the same."""

from pathlib import Path
from typing import Any, NoReturn

import pytest

from rowmill.core import config as configuration
from rowmill.core.config import Config
from rowmill.files.input.inputs import Input
from rowmill.runs import frozen_plan
from rowmill.runs.preparation import prepare
from rowmill.store import manifest as manifests
from rowmill.supervisor.prepared import Prepared

FIRST, THEN = b"n,text\n1,a\n2,b\n3,ab", b"n,text\n1,a\n2,b\n3,abc\n4,d\n"  # the third row had only begun


class Killed(BaseException):
    """Stands for a kill."""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    tree = {
        "input": {"path": "in.csv"},
        "task": {"model": "m", "prompt": "Say {text}"},
        "output": {"path": "out.jsonl"},
        "provider": [{"base_url": "http://127.0.0.1:1/v1"}],
    }
    return configuration.parse(tree, "test.toml")


def planned(prepared: Prepared) -> None:
    directory, sizes = prepared.directory, prepared.manifest
    shards = prepared.input.plan(directory.spool, shard_bytes=sizes.shard_bytes, shard_rows=sizes.shard_rows)
    manifests.save_plan(directory.plan, list(shards))
    directory.close()


@pytest.mark.parametrize(
    ("owner", "step"),
    [
        (frozen_plan, "shortened"),
        (manifests, "save_plan"),
        (Input, "take_new"),
        (frozen_plan, "noted"),
    ],
)
def test_killed_while_rows_are_planned_behind_the_others(
    config: Config, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str
) -> None:
    def killed(*_: object) -> NoReturn:
        raise Killed

    Path("in.csv").write_bytes(FIRST)
    planned(prepare(config, {}))
    Path("in.csv").write_bytes(THEN)
    with monkeypatch.context() as patched:
        patched.setattr(owner, step, killed)
        with pytest.raises(Killed):
            prepare(config, {})
    for _ in range(2):
        prepared = prepare(config, {})
        prepared.directory.close()
        assert prepared.shards is not None
        assert sum(shard.rows for shard in prepared.shards) == 4
        assert prepared.input.whole(prepared.directory.spool, prepared.shards)
        (part,) = prepared.input.parts(prepared.directory.spool)
        assert Path(part.path).read_bytes().count(b"abc") == 1
