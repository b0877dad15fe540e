"""Several steps in a configuration: what each of them is by itself, and what cannot be."""

import tomllib
from typing import Any

import pytest

from rowmill.core import config as configuration
from rowmill.core.config import fingerprints, steps
from rowmill.core.config.reading import every_key, own_keys, parse
from rowmill.core.config.sections import StepConfig
from rowmill.core.errors import ConfigError

SCHEMA = {"type": "object", "properties": {"score": {"type": "integer"}, "why": {"type": "string"}}}
TWO: dict[str, Any] = {
    "input": {"path": "in.jsonl", "id": "id"},
    "task": {"model": "small", "params": {"temperature": 0, "max_tokens": 9}},
    "output": {"path": "out.csv", "include": ["meta"]},
    "provider": [
        {"name": "a", "base_url": "http://a.test/v1", "model": "own", "fallback": ["b"]},
        {"name": "b", "base_url": "http://b.test/v1", "weight": 0.0},
        {"name": "c", "base_url": "http://c.test/v1"},
    ],
    "step": [
        {"name": "write", "prompt": "On {text}", "params": {"max_tokens": 40}, "provider": "a"},
        {"name": "judge", "prompt": "Is {write} good?", "model": "large", "schema": SCHEMA, "where": "score > 3"},
    ],
}


def tree(**changes: Any) -> dict[str, Any]:
    return {**TWO, **changes}


def step(number: int, **changes: Any) -> dict[str, Any]:
    """Return the document with a step changed."""
    made = [dict(each) for each in TWO["step"]]
    made[number] |= changes
    return tree(step=[{key: value for key, value in each.items() if value is not None} for each in made])


def refusal(document: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(document, "c.toml")
    return str(caught.value).removeprefix("c.toml: ")


def test_a_run_without_steps_is_one_step_which_is_the_run() -> None:
    config = parse(tree(step=[], task={"model": "m", "prompt": "{text}"}), "test")
    assert steps.count(config) == 1
    assert steps.of_step(config, 0) is config
    assert steps.providers_of(config, 0) == (0, 1, 2)
    assert steps.of_run(config, 0) is None
    assert "step" not in configuration.fingerprint(config)


def test_a_step_has_what_the_task_says_and_what_it_says_itself() -> None:
    config = parse(TWO, "test")
    write, judge = steps.of_step(config, 0), steps.of_step(config, 1)
    assert (write.task.prompt, write.task.params) == ("On {text}", {"temperature": 0, "max_tokens": 40})
    assert (judge.task.prompt, judge.task.params) == ("Is {write} good?", {"temperature": 0, "max_tokens": 9})
    assert write.step == judge.step == []


def test_the_model_of_a_step_wins_over_that_of_a_provider_and_that_of_the_task_does_not() -> None:
    config = parse(TWO, "test")
    write, judge = steps.of_step(config, 0), steps.of_step(config, 1)
    assert [write.model_of(each) for each in write.provider] == ["own", "small"]
    assert [judge.model_of(each) for each in judge.provider] == ["large", "large", "large"]


def test_a_step_asks_the_providers_that_it_names_and_those_that_take_what_fails_there() -> None:
    config = parse(TWO, "test")
    assert [(each.name, each.weight) for each in steps.of_step(config, 0).provider] == [("a", 1.0), ("b", 0.0)]
    assert steps.providers_of(config, 0) == (0, 1)
    assert steps.providers_of(config, 1) == (0, 1, 2)
    named = parse(step(0, provider=["b", "c"]), "test")
    assert [(each.name, each.weight) for each in steps.of_step(named, 0).provider] == [("b", 1.0), ("c", 1.0)]


def test_lines_of_a_step_hold_the_row_and_those_before_the_last_are_no_output() -> None:
    config = parse(TWO, "test")
    write, judge = steps.of_step(config, 0), steps.of_step(config, 1)
    assert (write.output.format, write.output.include) == ("jsonl", ["input", "meta"])
    assert (judge.output.format, judge.output.include) == ("auto", ["input", "meta"])


def test_the_columns_of_a_step_are_its_reply_or_the_members_of_that() -> None:
    config = parse(TWO, "test")
    assert [steps.columns_of(each) for each in config.step] == [["write"], ["judge.score", "judge.why"]]
    several = parse(step(1, params={"n": 2}), "test")
    assert steps.columns_of(several.step[1]) == ["judge"], "a list of replies has no such members"


def test_the_run_is_known_by_every_step() -> None:
    before = configuration.fingerprint(parse(TWO, "test"))
    assert before["step"] == ["write", "judge"]
    for number, name, changes in (
        (0, "step.write.prompt", {"prompt": "Of {text}"}),
        (1, "step.judge.where", {"where": "score > 2"}),
        (1, "step.judge.model", {"model": "larger"}),
    ):
        after = configuration.fingerprint(parse(step(number, **changes), "test"))
        assert [key for key in before if before[key] != after.get(key)] == [name]
    assert configuration.fingerprint(parse(step(1, compares=["write", "text"]), "test")) == before
    assert fingerprints.last_of(before, "api") == "chat.completions"
    assert fingerprints.last_of({"task.api": "embeddings"}, "api") == "embeddings"


def test_a_settled_configuration_has_the_task_of_its_last_step_and_its_steps_still() -> None:
    config = steps.with_last(parse(TWO, "test"))
    assert (config.task.prompt, config.task.model) == ("Is {write} good?", "small")
    assert steps.of_step(config, 0).model_of(config.provider[2]) == "small"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (step(0, name="2nd"), "step.name of '2nd': '2nd' must be 1 to 64 letters, digits"),
        (step(1, name="Write"), "step.name of 'Write': 'Write' is the name of two; give each its own"),
        (step(0, name=None), "step.name is missing"),
        (step(0, prompt=None), "step.prompt of 'write': is missing"),
        (step(0, promt="x"), "unknown key step.promt of 'write'; did you mean step.prompt?"),
        (step(0, provider="z"), "step.provider of 'write': no provider is called 'z'; there are a, b, c"),
        (step(0, provider=[]), "step.provider of 'write': must name one at least"),
        (step(1, where="score"), "step.where of 'judge': score: write NAME = VALUE"),
        (step(0, api="embeddings"), "step.api of 'write': no step can ask about a vector"),
        (step(0, mode="batch"), "step.mode of 'write': steps ask by live requests"),
        (step(1, rows_per_request=0), "step.rows_per_request of 'judge': must be 1 to 1000"),
        (step(1, compares=["write"]), "step.compares of 'judge': must name two different ones"),
        (step(1, compares=["write", "write"]), "step.compares of 'judge': must name two different ones"),
        (step(1, compares=["write", "text"], params={"n": 2}), "step.compares of 'judge': a verdict is one reply"),
        (step(1, compares=["a", "b"], api="moderations", schema=None), "step.compares of 'judge': a verdict is one"),
        (step(1, compares="write"), "step.compares of 'judge': expected array, got str"),
        (step(0, where=" "), "step.where of 'write': must not be empty; leave it out"),
        (step(0, where=5), "step.where of 'write': expected str | null, got int"),
        (tree(task={"model": "m", "mode": "batch"}), 'task.mode: "batch" is of runs of one step'),
        (tree(cluster={"engine": "ray"}), "cluster.engine: several steps run on one machine"),
        (tree(input={"path": "in.jsonl", "format": "batch"}), 'input.format: "batch" is of runs of one step'),
        (tree(output={"path": "o.jsonl", "format": "batch"}), 'output.format: "batch" is of runs of one step'),
        (tree(step={"name": "x"}), "step must be written as a [[step]] section"),
        (tree(steps=[]), "unknown section [steps]; did you mean [[step]]?"),
    ],
)
def test_what_cannot_be_is_told_with_the_step(document: dict[str, Any], said: str) -> None:
    assert refusal(document).startswith(said)


def test_a_key_of_one_of_several_steps_is_set_by_its_name() -> None:
    document = tomllib.loads('[[step]]\nname = "a"\n[[step]]\nname = "b"\n')
    configuration.override(document, "step.b.prompt=Say {a}")
    assert document["step"][1]["prompt"] == "Say {a}"
    with pytest.raises(ConfigError, match=r"write it as step\.NAME\.key=value, with NAME one of a, b"):
        configuration.override(document, "step.prompt=x")
    with pytest.raises(ConfigError, match=r"there is no \[\[step\]\] to change"):
        configuration.override(tree(step=[]), "step.a.prompt=x")


def test_there_are_no_more_steps_than_a_machine_has_room_for() -> None:
    many = [{"name": f"s{number}", "prompt": "{text}"} for number in range(33)]
    assert refusal(tree(step=many)).startswith("step: there are 33; a run has 32 at most")
    parse(tree(step=many[1:]), "test")


def test_a_step_has_every_key_of_the_task_and_a_few_of_its_own() -> None:
    assert own_keys(StepConfig) == ["name", "provider", "where", "compares"]
    assert [key for key in every_key() if key.startswith("step.")] == [f"step.{key}" for key in own_keys(StepConfig)]


@pytest.mark.parametrize("key", ["prompt", "messages"])
def test_what_a_step_asks_stands_in_the_place_of_what_the_task_asks(key: str) -> None:
    other = {"prompt": "messages", "messages": "prompt"}[key]
    made = steps.inherited({other: "x", "system": "s"}, {"name": "a", key: "y"})
    assert made == {"name": "a", key: "y", "system": "s"}
