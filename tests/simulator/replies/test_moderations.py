"""`/moderations` flags by words, in OpenAI's shape."""

import json
from typing import Any

import pytest
from openai.types import ModerationCreateResponse

from rowmill.simulator.replies import RequestError
from rowmill.simulator.replies.moderations import CATEGORIES, compose


def _body(given: Any) -> bytes:
    return json.dumps({"model": "omni-moderation-latest", "input": given}).encode()


def _reply(given: Any) -> ModerationCreateResponse:
    return ModerationCreateResponse.model_validate_json(compose(_body(given), bytes(16)).body)


def test_each_text_has_its_result_in_order() -> None:
    results = _reply(["a kind word", "I HATE this", "see [[flag]] here", "skilled"]).results
    assert [result.flagged for result in results] == [False, True, True, False]
    assert [result.categories.hate for result in results] == [False, True, False, False]
    assert [result.categories.violence for result in results] == [False, False, True, False]
    assert results[1].category_scores.hate > 0.5 > results[1].category_scores.violence


def test_every_category_has_a_flag_a_score_and_its_inputs() -> None:
    (result,) = json.loads(compose(_body("one"), bytes(16)).body)["results"]
    for member in ("categories", "category_scores", "category_applied_input_types"):
        assert tuple(result[member]) == CATEGORIES


def test_parts_are_judged_together() -> None:
    parts = [{"type": "text", "text": "they attack"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    assert [result.flagged for result in _reply(parts).results] == [True]


def test_scores_follow_from_the_text() -> None:
    assert _reply("one").results == _reply(["one"]).results
    assert _reply("one").results != _reply("two").results


@pytest.mark.parametrize("body", [b"{}", _body([]), _body(7)])
def test_a_wrong_request_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        compose(body, bytes(16))
    assert caught.value.status == 400
