"""Conversations of ShareGPT's form become messages, whatever mixture of names they are written with."""

import json
from typing import Any

import pytest

from rowmill.core.config import TaskConfig
from rowmill.core.config.sections import InputConfig
from rowmill.core.errors import InvalidRow
from rowmill.tasks.factory import open_task

CALL = json.dumps({"name": "f", "arguments": {"a": 1.50}})


def sent(turns: Any, **config: Any) -> Any:
    task = open_task(TaskConfig(**{"model": "m", "messages": "c"} | config), InputConfig(path="in.jsonl"))
    body = json.loads(task.build(json.dumps({"c": turns}).encode()).body)
    return body["input"] if config.get("api") == "responses" else body["messages"]


@pytest.mark.parametrize(
    "turns",
    [
        [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}, {"from": "human", "value": "c"}],
        [{"from": "Human", "value": "a"}, {"from": "assistant", "value": "b"}, {"from": "user", "value": "c"}],
        [{"role": "user", "value": "a"}, {"role": "assistant", "value": "b"}, {"role": "user", "value": "c"}],
        [{"from": "human", "content": "a"}, {"from": "gpt", "content": "b"}, {"from": "human", "content": "c"}],
        [{"role": "human", "content": "a"}, {"role": "gpt", "content": "b"}, {"role": "human", "content": "c"}],
        [
            {"from": "human", "value": "a", "role": None, "content": None, "weight": 0},
            {"role": "assistant", "content": "b", "from": None, "value": None, "weight": None},
            {"from": "human", "value": "c"},
        ],
        # What the data has as the answer is not sent:
        [
            {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}, {"from": "human", "value": "c"},
            {"from": "gpt", "value": "d"},
        ],
    ],
)  # fmt: skip
def test_turns_are_messages(turns: list[dict[str, Any]]) -> None:
    expected = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    for value in (turns, json.dumps(turns), {"conversations": turns}, json.dumps({"id": 1, "conversations": turns})):
        assert sent(value) == expected
        assert sent(value, system="s") == [{"role": "system", "content": "s"}, *expected]
    own = [{"from": "system", "value": "own"}, *turns]
    assert sent(own, system="s") == [{"role": "system", "content": "own"}, *expected]


def test_calls_and_their_results_are_those_of_the_api() -> None:
    turns = [
        {"from": "human", "value": "a"},
        {"from": "function_call", "value": CALL},
        {"from": "observation", "value": {"t": 2}},
        {"from": "gpt", "value": "b"},
        {"from": "function_call", "value": "f(1)"},
        {"from": "tool", "value": "3"},
        {"from": "function_call", "value": CALL},
    ]
    function = {"name": "f", "arguments": '{"a":1.5}'}
    text = [
        {"role": "assistant", "content": "b"},
        {"role": "assistant", "content": "f(1)"},
        {"role": "user", "content": "3"},
    ]
    assert sent(turns) == [
        {"role": "user", "content": "a"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": '{"t":2}'},
        *text,
    ]
    assert sent(turns, api="responses") == [
        {"role": "user", "content": "a"},
        {"type": "function_call", "call_id": "call_1", **function},
        {"type": "function_call_output", "call_id": "call_1", "output": '{"t":2}'},
        *text,
    ]


def test_a_last_turn_of_the_assistant_in_messages_of_the_api_is_sent() -> None:
    """Servers continue it: it is no training data."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert sent(turns) == turns
    assert sent({"messages": turns}) == turns


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ([{"from": "gpt", "value": "b"}], "nothing is asked"),
        ([{"from": "system", "value": "b"}, {"from": "gpt", "value": "b"}], "nothing is asked"),
        ([{"from": "alien", "value": "b"}], "message 0 is from 'alien'; known are human,"),
        ([{"from": "human", "value": "b"}, {"value": "b"}], "message 1 has no role"),
        ([{"from": "human", "value": 5}], "message 0 has a value that is neither"),
        ([{"from": "human", "value": "b"}, "x"], "message 1 is no object"),
        ([{"from": ["human"], "value": "b"}], "message 0 has no role"),
    ],
)
def test_what_is_no_conversation_says_why(turns: Any, words: str) -> None:
    with pytest.raises(InvalidRow, match=r"^task\.messages: column 'c'") as error:
        sent(turns)
    assert words in str(error.value)
