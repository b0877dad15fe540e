"""The completions API: what is read out of its replies."""

import json
from typing import Any

import pytest
from openai.types import Completion

from rowmill.core.errors import BadReply
from rowmill.tasks.completions import Completions

parse = Completions.parse


def reply(text: Any = "Hé", **choice: Any) -> bytes:
    choices = [{"index": 0, "text": text, "logprobs": None, "finish_reason": "length"} | choice]
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    whole = {"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
    return json.dumps(whole).encode()


def test_the_text_of_the_first_choice_is_the_answer() -> None:
    assert Completion.model_validate_json(reply(), strict=True).choices[0].text == "Hé"
    answer = parse(reply())
    assert [json.loads(part) for part in (answer.output, answer.finish_reason, answer.model)] == ["Hé", "length", "m"]
    assert (answer.prompt_tokens, answer.completion_tokens) == (3, 2)
    assert json.loads(parse(reply("")).output) == ""


def test_a_text_that_a_filter_has_held_back_is_a_result_that_says_so() -> None:
    answer = parse(reply(None, finish_reason="content_filter"))
    assert (answer.output, answer.finish_reason) == (b'""', b'"content_filter"')


def test_the_output_of_several_choices_is_the_list_of_all() -> None:
    assert parse(b'{"choices":[{"text":"a"},{"text":""},{"text":"b"}]}').output == b'["a","","b"]'
    assert parse(b'{"choices":[{"text":"a"},{"text":null}]}').output == b'["a",null]'


def test_a_reply_of_a_chat_is_read_as_one() -> None:
    body = b'{"choices":[{"%b":{"content":"a"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
    for name in (b"message", b"delta"):
        answer = parse(body % name)
        assert (answer.output, answer.prompt_tokens) == (b'"a"', 1)
    assert parse(b'{"choices":[{"text":5}]}').output == b"5"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the reply is empty"),
        (b'{"choices":[]}', "a completion without choices"),
        (b'{"choices":[{"words":"a chat"}]}', "a completion whose text is none"),
        (reply(None), "a completion whose text is none"),
    ],
)
def test_what_is_no_reply_says_why(body: bytes, reason: str) -> None:
    with pytest.raises(BadReply) as error:
        parse(body)
    assert str(error.value).startswith(reason)
