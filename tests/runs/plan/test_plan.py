"""The plan of a run, of real files, by the same code as the command's."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from rowmill.core import config as configuration
from rowmill.core.errors import InputError
from rowmill.core.plan import Plan, TrialFigures
from rowmill.runs.plan import plan
from rowmill.runs.plan.trials import Point, Trial

LOCAL = {"name": "main", "base_url": "http://127.0.0.1:1/v1", "api_key_env": "NOT_SET_ANYWHERE"}
PRICED = {"m": {"input": 1.0, "output": 4.0}}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"text": f"{place:04}" + "x" * 36}) + "\n" for place in range(1000)))
    return path


def planned(path: Path, trial: Trial | None = None, **sections: Any) -> Plan:
    tree = {
        "input": {"path": str(path)},
        "output": {"path": str(path.parent / "out.jsonl")},
        "provider": [LOCAL],
        "prices": PRICED,
        **sections,
        "task": {"model": "m", "prompt": "{text}", "params": {"max_tokens": 20}, **sections.get("task", {})},
    }
    return plan(configuration.parse(tree, "test"), trial)


def test_tokens_become_dollars_live_and_by_batches(rows: Path) -> None:
    found = planned(rows)
    assert (found.tokens.prompt.likely, found.tokens.reply.likely) == (13_000, 10_000)
    assert found.live.usd is not None
    assert found.live.usd.likely == pytest.approx(0.013 * 1.0 + 0.010 * 4.0)
    assert found.live.usd.low < found.live.usd.likely < found.live.usd.high
    assert found.batch.usd is not None
    assert found.batch.usd.likely == pytest.approx(found.live.usd.likely / 2)
    assert (found.batch.problem, found.batch.discount, found.batch.parts, found.batch.waves) == (None, 0.5, 1, 1)
    assert (found.live.seconds, found.batch.seconds) == (None, 86_400)


def test_nothing_is_written_and_no_key_is_needed(rows: Path) -> None:
    planned(rows)
    assert [path.name for path in rows.parent.iterdir()] == ["in.jsonl"]


def test_the_first_request_is_shown_as_the_provider_is_asked(rows: Path) -> None:
    found = planned(rows, provider=[{**LOCAL, "weight": 0}, {**LOCAL, "name": "other", "model": "theirs"}])
    assert found.request is not None
    assert (found.request.provider, found.request.model) == ("other", "theirs")
    body = json.loads(found.request.body)
    assert (body["model"], body["messages"][0]["content"][:4]) == ("theirs", "0000")


def test_an_unknown_price_is_told_with_what_to_add_and_limits_only_the_dollars(rows: Path) -> None:
    found = planned(rows, prices={}, budget={"max_usd": 1.0})
    assert (found.live.usd, found.batch.usd, found.batch.discount) == (None, None, None)
    assert [(line.model, line.input) for line in found.prices] == [("m", None)]
    assert '[prices] "m" =' in (found.prices[0].how_to_set or "")
    assert found.tokens.prompt.likely == 13_000
    assert found.budget is not None
    assert found.budget.rows is None
    by_tokens = planned(rows, prices={}, budget={"max_tokens": 11_500})
    assert by_tokens.budget is not None
    assert (by_tokens.budget.rows, by_tokens.budget.first) == (500, "max_tokens")


def test_the_cap_that_is_met_first_says_how_many_rows_a_budget_covers(rows: Path) -> None:
    budget = planned(rows, budget={"max_requests": 400, "max_tokens": 11_500}).budget
    assert budget is not None
    assert (budget.rows, budget.share, budget.first, budget.mode) == (400, 0.4, "max_requests", "live")
    enough = planned(rows, budget={"max_usd": 100}).budget
    assert enough is not None
    assert (enough.rows, enough.first) == (1000, None)
    half = planned(rows, budget={"max_usd": 0.0265}, task={"mode": "batch"}).budget
    assert half is not None
    assert (half.rows, half.mode) == (1000, "batch")


def test_providers_share_the_cost_by_their_weights(rows: Path) -> None:
    two = [{**LOCAL, "weight": 3}, {**LOCAL, "name": "b", "model": "dear"}]
    found = planned(rows, provider=two, prices={**PRICED, "dear": {"input": 9.0, "output": 0.0}})
    assert found.live.usd is not None
    assert found.live.usd.likely == pytest.approx(0.75 * 0.053 + 0.25 * 0.117)
    assert [line.model for line in found.prices] == ["m", "dear"]


def test_each_model_that_rows_name_has_its_price(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"text": "x" * 40, "m": name}) + "\n" for name in ("a", "b", None, None)))
    task = {"per_row": {"model": "m"}}
    found = planned(
        path, task=task, prices={**PRICED, "a": {"input": 1e6, "output": 0}, "b": {"input": 0, "output": 1e6}}
    )
    assert found.live.usd is not None
    assert found.live.usd.likely == pytest.approx(13 + 10, rel=1e-3)
    assert found.request is not None
    assert found.request.model is None
    assert "a batch has one" in (found.batch.problem or "")
    assert planned(path, task=task).live.usd is None


def test_what_forbids_batches_is_told(rows: Path) -> None:
    found = planned(rows, cache={"use": "run"})
    assert (found.batch.problem or "").startswith("cache.use:")
    assert found.counted.duplicates == 0


def test_a_trial_takes_the_place_of_guesses(rows: Path) -> None:
    figures = TrialFigures(
        rows=20, failed=0, requests=20, prompt_tokens=400, completion_tokens=500, usd=0.1, output="o", run_dir="r",
        again=False,
    )  # fmt: skip
    found = planned(rows, Trial(figures, [Point(13.0, 20, 20 + place % 11) for place in range(20)]))
    assert (found.tokens.measured, found.trial) == (True, figures)
    assert found.tokens.prompt.low == found.tokens.prompt.likely == found.tokens.prompt.high == 20_000
    assert found.tokens.reply.low < found.tokens.reply.likely == pytest.approx(24_550, rel=0.01)
    assert found.tokens.reply.high < 27_000
    silent = planned(rows, Trial(figures, [Point(13.0, 0, 0)] * 20))
    assert not silent.tokens.measured
    assert "measured nothing" in silent.notices[0]


def test_an_entry_that_prices_nothing_is_a_notice(rows: Path) -> None:
    assert planned(rows, prices={**PRICED, "M": {"input": 1}}).notices == [
        '[prices] "M": nobody is asked for this model'
    ]


def test_an_empty_input_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").touch()
    found = planned(tmp_path / "in.jsonl", budget={"max_usd": 1.0})
    assert (found.input.rows, found.request, found.tokens.prompt.likely, found.batch.parts) == (0, None, 0, 0)


def test_a_wrong_column_is_refused_as_by_a_run(rows: Path) -> None:
    with pytest.raises(InputError, match=r"no column 'nothing', which task\.prompt names"):
        planned(rows, task={"prompt": "{nothing}"})


def test_memory_does_not_grow_with_the_input(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        path = tmp_path / f"{count}.jsonl"
        path.write_bytes(b"".join(b'{"text": "%d %b"}\n' % (place, b"x" * 400) for place in range(count)))
        tracemalloc.start()
        planned(path)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(100)  # what is imported and cached at the first use
    assert peak(9_000) < peak(4_000) + 1_000_000
