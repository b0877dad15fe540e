"""Moderations: each input's own result is its answer."""

import json
from typing import Any

import pytest

from rowmill.core.config import TaskConfig
from rowmill.core.config.sections import InputConfig
from rowmill.core.errors import BadReply
from rowmill.tasks.factory import open_task
from rowmill.tasks.moderations import Moderations


def result(flagged: Any = False, score: float = 0.25) -> dict[str, Any]:
    return {"flagged": flagged, "categories": {"hate": flagged}, "category_scores": {"hate": score}}


def reply(*results: Any) -> bytes:
    return json.dumps({"id": "modr", "model": "omni", "results": results}).encode()


def test_the_result_is_the_answer() -> None:
    answer = Moderations.parse(reply(result(flagged=True)))
    assert json.loads(answer.output) == result(flagged=True)
    assert (answer.finish_reason, answer.model, answer.usage) == (b"null", b'"omni"', b"null")
    assert (answer.prompt_tokens, answer.completion_tokens) == (0, 0)


def test_several_inputs_get_their_own_results_in_order() -> None:
    scores = [0.1, 0.2, 0.3]
    answers = Moderations.unpack(reply(*(result(score=score) for score in scores)), 3)
    assert [json.loads(answer.output)["category_scores"]["hate"] for answer in answers] == scores  # type: ignore[union-attr]  # all are answers


def test_inputs_go_out_together_where_that_is_asked_for() -> None:
    config = TaskConfig(api="moderations", model="m", prompt="{q}")
    single = open_task(config, InputConfig(path="in.jsonl"))
    assert single.rows_per_request == 1
    assert json.loads(single.build(b'{"q":"a"}').body) == {"model": "m", "input": "a"}
    packed = open_task(
        TaskConfig(api="moderations", model="m", prompt="{q}", rows_per_request=5), InputConfig(path="in.jsonl")
    )
    assert packed.rows_per_request == 5
    rows = [packed.build(b'{"q":"%c"}' % letter) for letter in b"ab"]
    assert json.loads(packed.pack(rows).body) == {"model": "m", "input": ["a", "b"]}
    assert len(packed.unpack(reply(result(), result()), 2)) == 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the reply is empty"),
        (b"{}", "no moderation: "),
        (reply(), "a moderation of 0 results for 1 inputs"),
        (reply(result(), result()), "a moderation of 2 results for 1 inputs"),
        (reply(5), "no moderation: "),
        (reply(result(flagged="yes")), "no moderation: "),
    ],
)
def test_what_is_no_reply_says_why(body: bytes, reason: str) -> None:
    with pytest.raises(BadReply) as error:
        Moderations.parse(body)
    assert str(error.value).startswith(reason)
