"""Which part of a request's form a refusal is about: by what servers were seen to say, and by nothing else."""

import json

import pytest

from rowmill.core.request_form import SCHEMA_FORMS, USUAL, RequestForm, SchemaForm
from rowmill.core.wire import Failure, Reply
from rowmill.transport.faults import classify
from rowmill.transport.refused_forms import refused_part
from tests.transport.test_refusal_shapes import SHAPES

STREAM = RequestForm(stream=True)


def refusal(status: int, body: str, headers: dict[str, str] | None = None) -> Failure:
    found = classify(Reply(status, body.encode(), lambda name: (headers or {}).get(name.lower())))
    assert found is not None
    return found


def says(message: str, status: int = 400) -> Failure:
    return refusal(status, json.dumps({"error": {"message": message, "type": "invalid_request_error"}}))


@pytest.mark.parametrize("place", range(len(SHAPES)))
def test_each_shape_is_of_the_part_that_it_refuses_and_no_other_of_any(place: int) -> None:
    shape = SHAPES[place]
    if 200 <= shape["status"] < 300:
        return
    failure = refusal(shape["status"], shape["body"], shape["headers"])
    wanted = shape.get("refuses")
    assert refused_part(failure, STREAM if wanted == "usage" else USUAL) == wanted
    if wanted != "usage":
        assert refused_part(failure, STREAM) == (wanted if wanted == "schema" else None)


@pytest.mark.parametrize(
    "message",
    [
        "stream must be true",
        "'stream' must be set to true for this model",
        "`stream` parameter must be true",
        "This model only supports streaming",
        "Only streaming responses are supported. Only supports stream=true.",
        "Non-streaming requests are not supported for this model",
        "non_streaming mode is currently not available",
        "Streaming is required for operations that may take longer than 10 minutes",
        "Unsupported value: 'stream' does not support false with this model.",
        "stream=false is not supported",
    ],
)
def test_who_wants_streams_is_understood_in_other_words_too(message: str) -> None:
    assert refused_part(says(message), USUAL) == "whole"
    assert refused_part(says(message), STREAM) is None


@pytest.mark.parametrize(
    ("message", "form"),
    [
        ("Structured outputs are not supported by this model", "json_schema"),
        ("Unrecognized request argument supplied: response_format", "json_schema"),
        ("The provided JSON schema contains features not supported by xgrammar.", "json_schema"),
        ("output_config.format: Extra inputs are not permitted", "json_schema"),
        ("The specified schema produces a constraint that has too many states for serving.", "json_schema"),
        ("Unknown parameter: 'text.format'.", "json_schema"),
        ("json mode is not supported for this model", "json_object"),
        ("registry.ollama.ai/library/gemma:2b does not support tools", "tool"),
        ("Thinking mode does not support this tool_choice", "tool"),
        ('"auto" tool choice requires --enable-auto-tool-choice; tool_choice is not supported', "tool"),
    ],
)
def test_a_way_to_ask_for_a_schema_is_refused_in_other_words_too(message: str, form: SchemaForm) -> None:
    assert refused_part(says(message), RequestForm(schema=form)) == "schema"
    assert refused_part(says(message), RequestForm(schema="prompt")) is None


@pytest.mark.parametrize(
    "failure",
    [
        says("The response_format is not supported", 401),
        says("The response_format is not supported", 429),
        says("response_format json_schema is overloaded, not supported", 503),
        refusal(400, '{"error":{"message":"Invalid input: response_format","param":"messages[0].content"}}'),
        refusal(400, '{"error":{"message":"json_schema is invalid","code":"json_validate_failed"}}'),
        says("This model's maximum context length is 8192 tokens."),
        says("The upstream was unavailable"),
        says("Requests are streamed to the model; too many images"),
    ],
)
def test_other_failures_are_no_refusals_of_a_form(failure: Failure) -> None:
    for schema in SCHEMA_FORMS:
        assert refused_part(failure, RequestForm(schema=schema)) is None
