"""`/completions` answers each prompt by a choice."""

import json
from typing import Any

import pytest
from openai.types import Completion

from rowmill.simulator.replies import RequestError, digest, fingerprint
from rowmill.simulator.replies.completions import compose


def _body(prompt: Any = "Once upon a time", **extra: Any) -> bytes:
    return json.dumps({"model": "sim-small", "prompt": prompt, **extra}).encode()


def _reply(body: bytes) -> Completion:
    return Completion.model_validate_json(compose(body, fingerprint(body)).body)


def test_a_prompt_is_answered_with_its_digest() -> None:
    reply = _reply(_body())
    assert [choice.text[-10:] for choice in reply.choices] == [f"[{digest('Once upon a time')}]"]
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == 4


def test_several_prompts_are_several_choices_and_are_billed_together() -> None:
    completion = compose(_body(["a" * 40, "b" * 80]), bytes(16))
    reply = Completion.model_validate_json(completion.body)
    assert [(choice.index, choice.text[-10:]) for choice in reply.choices] == [
        (0, f"[{digest('a' * 40)}]"),
        (1, f"[{digest('b' * 80)}]"),
    ]
    assert (completion.prompt_tokens, completion.inputs) == (30, 2)


def test_each_prompt_has_so_many_choices() -> None:
    completion = compose(_body(["a" * 40, "b" * 80], n=2), bytes(16))
    reply = Completion.model_validate_json(completion.body)
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    assert len({choice.text for choice in reply.choices}) == 4
    assert [reply.choices[place].text[-10:] for place in (0, 2)] == [
        f"[{digest(text)}]" for text in ("a" * 40, "b" * 80)
    ]
    assert completion.prompt_tokens == 30
    assert completion.charge == 30 + completion.completion_tokens


def test_a_cap_cuts_and_says_length() -> None:
    choice = _reply(_body(max_tokens=2)).choices[0]
    assert (len(choice.text), choice.finish_reason) == (8, "length")


@pytest.mark.parametrize(
    "body", [b'{"model":"m"}', _body([]), _body(stream=True), _body(max_tokens=0), _body(prompt="[[filter]]")]
)
def test_a_wrong_request_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        compose(body, fingerprint(body))
    assert caught.value.status == 400
