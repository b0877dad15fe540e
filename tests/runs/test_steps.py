"""Steps are held against the columns that they will find, before anything is asked."""

from pathlib import Path
from typing import Any

import pytest

from rowmill.core import config as configuration
from rowmill.core.config import Config
from rowmill.core.errors import ConfigError, InputError
from rowmill.core.rows import Column
from rowmill.files.input import inputs
from rowmill.runs.check import check
from rowmill.runs.deduplication import deduplicate
from rowmill.runs.plan import plan
from rowmill.runs.preparation import settled
from rowmill.runs.steps import checked_tasks, endpoints_of, prepared_steps, rows_of_steps

SCORE = {"type": "object", "properties": {"score": {"type": "integer"}, "why": {"type": "string"}}}
WRITE: dict[str, Any] = {"name": "write", "prompt": "On {text}"}
JUDGE: dict[str, Any] = {"name": "judge", "prompt": "Is {write} good?", "schema": SCORE}
TITLE: dict[str, Any] = {"name": "title", "prompt": "{write}: {judge.score}, {judge.why}"}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text('{"text":"a","lang":"en","of":{"n":1}}\n' * 20)


def config(*steps: dict[str, Any], **sections: Any) -> Config:
    tree: dict[str, Any] = {
        "input": {"path": "in.jsonl"},
        "task": {"model": "m"},
        "output": {"path": "out.csv"},
        "provider": [{"base_url": "http://127.0.0.1:1/v1"}],
        "step": list(steps),
    }
    return configuration.parse(tree | sections, "test")


def check_steps(*steps: dict[str, Any]) -> Config:
    made = config(*steps)
    found = inputs.find(made.input)
    made = settled(made, found)
    checked_tasks(made, found)
    return made


def test_a_step_finds_the_columns_of_the_input_and_of_the_steps_before() -> None:
    check_steps(WRITE, JUDGE, TITLE)
    made = config(WRITE, JUDGE, TITLE)
    rows = list(rows_of_steps(made, inputs.find(made.input)))
    assert rows[1][0] == b'{"text":"a","lang":"en","of":{"n":1},"write":"text"}'
    assert rows[2][0].endswith(b',"write":"text","judge.score":1,"judge.why":"text"}')


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (
            [{**WRITE, "prompt": "{txt}"}, JUDGE],
            "no column 'txt', which step 'write' by its prompt names; did you mean",
        ),
        ([{**WRITE, "prompt": "{judge.score}"}, JUDGE], "no column 'judge.score', which step 'write' by its prompt"),
        ([{**WRITE, "prompt": "{judge.score}"}, JUDGE], "; step 'judge' makes it, and is asked later"),
        ([{**WRITE, "prompt": "{write}"}, JUDGE], "; step 'write' makes it, and is asked then"),
        ([WRITE, JUDGE, {**TITLE, "prompt": "{judge.scor}"}], "did you mean 'judge.score'? the columns are text, lang"),
        ([WRITE, JUDGE, {**TITLE, "prompt": "{judge}"}], "no column 'judge', which step 'title' by its prompt names"),
        ([{**WRITE, "name": "lang"}], "in.jsonl: has a column 'lang' already, which step 'lang' would make"),
    ],
)
def test_a_column_that_nobody_makes_is_told_with_the_step(steps: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(InputError) as caught:
        check_steps(*steps)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "where",
    ["score > 1", "judge.score > 1", "lang = en", "of.n = 1", "write ~ a", "output.score = 1", "finish_reason = stop"],
)
def test_a_condition_is_on_what_there_is_then(where: str) -> None:
    check_steps(WRITE, {**JUDGE, "where": where}, TITLE)


def test_a_condition_on_what_nobody_makes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"step\.where of 'judge': nothing is called 'scor'; did you mean 'score'"):
        check_steps(WRITE, {**JUDGE, "where": "scor > 1"}, TITLE)
    with pytest.raises(ConfigError, match="nothing is called 'title'"):
        check_steps(WRITE, {**JUDGE, "where": "title = x"}, TITLE)


VERDICT = {"type": "object", "properties": {"winner": {"enum": ["first", "second", "tie"]}}}
RIVAL: dict[str, Any] = {"name": "rival", "prompt": "About {text}", "schema": SCORE}
COMPARE: dict[str, Any] = {"name": "compare", "prompt": "{write} or {rival.why}?", "compares": ["write", "rival"]}


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": VERDICT},
        {},  # a text
        {"schema": {"type": "object"}},  # whose members nobody knows
        {"schema": {"type": "object", "properties": {"winner": {"type": "string"}}}},
        {"schema": VERDICT, "compares": ["lang", "text"]},
    ],
)
def test_a_step_compares_answers_of_steps_before_it_or_columns(changes: dict[str, Any]) -> None:
    check_steps(WRITE, RIVAL, {**COMPARE, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"compares": ["write", "rivals"]}, "'rivals' is neither a step before it nor a column; there are text"),
        ({"compares": ["write", "compare"]}, "'compare' is neither a step before it nor a column"),
        ({"schema": SCORE}, "its schema must have a member 'winner' that is one of first, second, tie"),
        ({"schema": {"type": "object", "properties": {"winner": {"enum": ["a", "b"]}}}}, "its schema must have"),
        ({"schema": {"type": "object", "properties": {"winner": {"enum": ["first", "tie"]}}}}, "its schema must have"),
    ],
)
def test_a_comparison_that_nobody_could_win_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_steps(WRITE, RIVAL, {**COMPARE, **changes})
    assert str(caught.value).startswith(f"step.compares of 'compare': {said}")


def test_a_template_that_is_none_is_told_with_the_step() -> None:
    with pytest.raises(ConfigError, match=r"^step\.prompt of 'judge': "):
        check_steps(WRITE, {**JUDGE, "prompt": "{a b!r}"})


def test_a_schema_that_is_not_there_is_told_with_the_step() -> None:
    with pytest.raises(ConfigError, match=r"^step\.schema of 'judge': nope\.json: no such file"):
        check_steps(WRITE, {**JUDGE, "schema": "nope.json"})


def test_a_batch_file_has_no_steps() -> None:
    Path("in.jsonl").write_text('{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m"}}\n')
    with pytest.raises(ConfigError, match=r"in\.jsonl: is a batch file, whose lines are whole requests"):
        check_steps(WRITE)


def test_tables_of_later_steps_have_the_answers_as_typed_columns() -> None:
    made = check_steps(WRITE, JUDGE, TITLE)
    found = inputs.find(made.input)
    each = prepared_steps(made, endpoints_of(made, {}), [[None], [None], [None]], found)
    assert [step.layout.input_columns[3:] for step in each] == [
        (),
        (Column("write"),),
        (Column("write"), Column("judge.score", "int64"), Column("judge.why")),
    ]
    assert [(step.name, step.folder) for step in each] == [("write", "write"), ("judge", "judge"), ("title", None)]


def test_a_plan_is_of_all_steps() -> None:
    whole, alone = plan(config(WRITE, JUDGE, TITLE)), plan(config(WRITE))
    assert whole.counted.requests == 60
    assert whole.input.rows == 20
    assert whole.tokens.prompt.likely > 3 * alone.tokens.prompt.likely, "later steps read answers"
    assert whole.batch.problem == "a run of several steps asks by live requests"
    assert whole.request is not None
    assert "On a" in whole.request.body


def test_a_plan_takes_as_long_as_the_slowest_step() -> None:
    providers = [
        {"name": "fast", "base_url": "http://127.0.0.1:1/v1", "requests_per_minute": 600},
        {"name": "slow", "base_url": "http://127.0.0.1:2/v1", "requests_per_minute": 20},
    ]
    steps = [{**WRITE, "provider": "fast"}, {**JUDGE, "provider": "slow"}]
    assert plan(config(*steps, provider=providers)).live.seconds == pytest.approx(60, rel=0.1)


def test_a_check_is_of_every_step_and_whom_it_asks() -> None:
    providers = [{"name": "a", "base_url": "http://127.0.0.1:1/v1"}, {"name": "b", "base_url": "http://127.0.0.1:2/v1"}]
    checked = check(config(WRITE, {**JUDGE, "provider": "b", "model": "large"}, provider=providers), {}, ask=False)
    assert [(each.name, each.model) for each in checked.providers] == [
        ("a in step write", "m"),
        ("b in step write", "m"),
        ("b in step judge", "large"),
    ]


def test_a_price_is_needed_of_every_model_where_dollars_are_capped() -> None:
    capped = config(
        WRITE, {**JUDGE, "model": "large"}, budget={"max_usd": 1.0}, prices={"m": {"input": 1, "output": 1}}
    )
    with pytest.raises(ConfigError, match='the price of model "large" at provider "default" is not known'):
        check(capped, {}, ask=False)


def test_near_duplicates_are_of_runs_of_one_step() -> None:
    with pytest.raises(ConfigError, match=r"^step: rowmill dedup takes the vectors of runs of one step"):
        deduplicate(config(WRITE, {**TITLE, "api": "embeddings"}), threshold=0.9, kept=Path("kept.jsonl"))
