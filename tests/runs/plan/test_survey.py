"""Reading the input: all of it or a part that stands for it, in every format, without a trace."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core import config as configuration
from rowmill.core.rows import Shard
from rowmill.files.input import inputs
from rowmill.runs.plan import survey as surveys
from rowmill.runs.plan.survey import Survey, chosen, survey_input
from rowmill.runs.preparation import settled
from rowmill.tasks.factory import open_task


def surveyed(path: Path, **task: Any) -> Survey:
    sections = task.pop("sections", {})
    tree = {
        "input": {"path": str(path)},
        "output": {"path": str(path.parent / "out.jsonl")},
        "task": {"model": "m", "prompt": "{text}", **task},
        **sections,
    }
    config = configuration.parse(tree, "test")
    found = inputs.find(config.input)
    config = settled(config, found)
    opened = open_task(config.task, config.input, whole_reply=config.output.format == "batch")
    return survey_input(config, found, opened)


def lines(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def test_a_small_input_is_read_whole(tmp_path: Path) -> None:
    found = surveyed(lines(tmp_path / "in.jsonl", ["x" * 40] * 30))
    assert (found.rows, found.read, found.whole, found.shards) == (30, 30, True, 1)
    assert (found.sums.requests, found.sums.prompt, found.spread) == (30, 30 * 13, 0)
    assert found.first is not None
    assert found.first.body.startswith(b'{"model":"m"')


def test_a_converted_input_gives_the_same_and_leaves_nothing(tmp_path: Path) -> None:
    plain = lines(tmp_path / "in.jsonl", ["xxxx", 'with "quotes", and commas', "ж"])
    (tmp_path / "in.csv").write_text('text\nxxxx\n"with ""quotes"", and commas"\nж\n')
    before = sorted(tmp_path.iterdir())
    assert surveyed(tmp_path / "in.csv").sums == surveyed(plain).sums
    assert sorted(tmp_path.iterdir()) == before


def test_a_converted_input_needs_no_place_to_write_beside_the_output(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text\nrow\n")
    sections = {"checkpoint": {"dir": str(tmp_path / "missing" / "run")}}
    assert surveyed(tmp_path / "in.csv", sections=sections).rows == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_rows_that_cannot_be_asked_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    path = lines(tmp_path / "in.jsonl", ["four"] * 3)
    path.write_bytes(path.read_bytes() + b'\n{"other": 1}\n')
    found = surveyed(path)
    assert (found.rows, found.invalid, found.first_invalid) == (5, 2, "row 3: the line is blank")
    assert found.sums.requests == 3


def test_rows_of_a_pack_are_one_request(tmp_path: Path) -> None:
    path = lines(tmp_path / "in.jsonl", ["four"] * 25)
    found = surveyed(path, rows_per_request=10, params={"max_tokens": 10})
    assert (found.sums.requests, found.first_rows) == (3, 10)
    assert found.sums.most_reply == 2 * (10 * 26 + 16) + (5 * 26 + 16)
    vectors = surveyed(path, api="embeddings")
    assert (vectors.sums.requests, vectors.sums.prompt, vectors.sums.reply) == (1, 25, 0)


def test_requests_that_share_a_reply_count_once(tmp_path: Path) -> None:
    path = lines(tmp_path / "in.jsonl", ["one", "two", "one", "one"])
    assert (surveyed(path).sums.requests, surveyed(path).duplicates) == (4, 0)
    shared = surveyed(path, sections={"cache": {"use": "run"}})
    assert (shared.sums.requests, shared.duplicates) == (2, 2)


def test_models_that_rows_name_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    rows = [{"text": "four", "m": "a"}, {"text": "four", "m": None}, {"text": "four", "m": "m"}, {"text": "four"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = surveyed(path, per_row={"model": "m"})
    assert {name: sums.requests for name, sums in found.by_model.items()} == {"a": 1, None: 2, "m": 1}


def test_a_batch_file_names_its_models(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    body = {"messages": [{"role": "user", "content": "four"}]}
    request = {"method": "POST", "url": "/v1/chat/completions"}
    rows = [{"custom_id": f"c{place}", **request, "body": {"model": name, **body}} for place, name in enumerate("aab")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = surveyed(path, model=None, prompt=None)
    assert {name: sums.requests for name, sums in found.by_model.items()} == {"a": 2, "b": 1}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take an input of 2,000 rows for a large one."""
    monkeypatch.setattr(surveys, "_ALL", 2000)
    monkeypatch.setattr(surveys, "_SOME", 1000)
    monkeypatch.setattr(surveys, "_CLUSTERS", 20)


@pytest.mark.usefixtures("few")
def test_a_large_input_is_told_from_a_part_of_it(tmp_path: Path) -> None:
    """Rows get longer along the input, so that its start alone would tell it wrongly."""
    texts = [f"{place:06}" + "x" * (place // 10) for place in range(10_000)]
    path = lines(tmp_path / "in.jsonl", texts)
    found = surveyed(path)
    assert found.rows == 10_000
    assert found.read <= 1100
    whole = sum(len(text) / 4 + 3 for text in texts)
    assert found.sums.requests == pytest.approx(10_000)
    assert abs(found.sums.prompt / whole - 1) < found.spread < 0.5


@given(
    st.lists(st.integers(1, 30_000), min_size=1, max_size=120).map(
        lambda rows: [Shard(n, sum(rows[:n]), count, 0, 1, 0) for n, count in enumerate(rows)]
    )
)
@settings(max_examples=40, deadline=None)
def test_what_is_read_is_spread_evenly_and_bounded(shards: list[Shard]) -> None:
    rows = sum(shard.rows for shard in shards)
    picked, most = chosen(shards)
    read = sum(min(shard.rows, most) for shard in picked)
    if rows <= 100_000:
        assert (picked, read) == (shards, rows)
        return
    assert 0 < read <= 51_000
    numbers = [shard.number for shard in picked]
    assert numbers == sorted(set(numbers))
    steps = [later - earlier for earlier, later in itertools.pairwise(numbers)]
    assert not steps or max(steps) - min(steps) <= 1
