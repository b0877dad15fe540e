"""Which part of a request's form a refusal is about: by what servers were seen to say, and by nothing else."""

import json

import pytest

from rowmill.core.request_form import SCHEMA_FORMS, USUAL, RequestForm, SchemaForm
from rowmill.core.wire import Failure, Reply
from rowmill.transport.faults import classify, inside
from rowmill.transport.refused_forms import refused_part
from tests.transport.test_refusal_shapes import SHAPES

STREAM = RequestForm(stream=True)
GEMINI = (
    'Invalid JSON payload received. Unknown name "additionalProperties" at '
    "'generation_config.response_schema': Cannot find field."
)


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
        "This endpoint only supports streaming responses",
        "stream=True is required",
        "Please set stream to true",
        "Please set `stream` to `true`",
        "the model requires streaming",
        "You must use streaming for this model",
        "The stream parameter is required for this model",
        "This model only supports stream output",
        "only stream mode is supported",
        "Only streaming mode is supported",
        "This model does not support non-stream output",
        "model does not support non-streaming",
        "Non-stream requests are unsupported",
        "non-stream is not supported",
        "Streaming must be enabled",
        "streaming must be true",
        "The model does not support non-streaming output, please use stream mode.",
        "Error: only streaming is supported",
        "stream: Input should be True",
        "Value error, stream must be True",
        "'stream' is required to be true",
        "request must be streaming",
        "Model only supports 'stream' requests",
        "Stream is required",
        "stream 参数必须为 true",
        "Synchronous (non-streaming) calls are not supported for this model",
        "This API requires stream: true",
        "Only stream=true is supported",
        "The 'stream' field must be true",
        "Batch (non-stream) inference is disabled",
        "The parameter stream must be set to true.",
        "InvalidParameter: stream only support true",
    ],
)
def test_who_wants_streams_is_understood_in_other_words_too(message: str) -> None:
    assert refused_part(says(message), USUAL) == "whole"
    assert refused_part(says(message), STREAM) is None


@pytest.mark.parametrize(
    "message",
    [
        "Streaming is not supported",
        "stream=true is not supported for this model",
        "This model does not support streaming",
        "stream must be false",
        "stream is not allowed",
        "'stream' must be a boolean",
        "Stream timed out",
        "upstream is required to be healthy",
    ],
)
def test_who_wants_no_streams_or_speaks_of_other_streams_is_asked_as_before(message: str) -> None:
    assert refused_part(says(message), USUAL) is None


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
        ("json_object is not supported", "json_object"),
        ("response_format must be text", "json_object"),
        ("This model supports only text output format for response_format", "json_object"),
    ],
)
def test_a_way_to_ask_for_a_schema_is_refused_in_other_words_too(message: str, form: SchemaForm) -> None:
    assert refused_part(says(message), RequestForm(schema=form)) == "schema"
    assert refused_part(says(message), RequestForm(schema="prompt")) is None


@pytest.mark.parametrize(
    ("status", "message", "form"),
    [
        (
            400,
            "response_format value as json_schema is enabled only for api versions 2024-08-01-preview and later",
            "json_schema",
        ),
        (400, "Failed to parse grammar", "json_schema"),
        (500, 'JSON schema conversion failed:\nUnrecognized schema: {"type":"foo"}', "json_schema"),
        (400, "Failed to initialize samplers: failed to parse grammar", "json_schema"),
        (404, "No endpoints found that can handle the requested parameters.", "json_schema"),
        (404, "No endpoints found that support the requested parameters", "json_schema"),
        (422, "Input validation error: grammar is not supported", "json_schema"),
        (422, "Invalid grammar", "json_schema"),
        (400, "Grammar backend is none; Cannot use json_schema", "json_schema"),
        (400, "Failed to compile json grammar: foo", "json_schema"),
        (400, "deepseek-reasoner does not support Json Output", "json_schema"),
        (400, "JSON mode is not enabled for models/gemma-3-27b-it", "json_schema"),
        (
            400,
            GEMINI,
            "json_schema",
        ),
        (400, "Model does not support JSON mode", "json_schema"),
        (400, 'json: unknown field "json_schema"', "json_schema"),
        (400, "Response format type json_schema is not enabled for this model", "json_schema"),
        (500, "failed to load model vocabulary required for format", "json_schema"),
        (400, 'invalid format: expected "json" or a JSON schema', "json_schema"),
        (400, "Structured output is not supported for this model", "json_schema"),
        (
            400,
            (
                "Invalid schema for response_format 'answer': In context=(), 'additionalProperties' is required to be "
                "false."
            ),
            "json_schema",
        ),
        (400, "extraneous key [response_format] is not permitted", "json_schema"),
        (400, "Unsupported parameter: response_format", "json_schema"),
        (400, "guided decoding is disabled", "json_schema"),
        (501, "response_format is not implemented", "json_schema"),
        (404, "response_format json_schema not supported", "json_schema"),
        (
            422,
            "[{'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), 'msg': 'Input should be text'}]",
            "json_schema",
        ),
        (500, "Internal error: response_format json_schema is not supported by backend", "json_schema"),
        (400, "The model does not support structured output", "json_schema"),
        (400, "json_schema is only supported by models X and Y", "json_schema"),
        (400, "Outlines: JSON schema has unsupported keyword 'format'", "json_schema"),
        (400, "response_format: extra fields not permitted", "json_schema"),
        (400, "Expected response_format.type to be 'json_object' or 'text'", "json_schema"),
        (
            400,
            "response_format.type: Invalid enum value. Expected 'text' | 'json_object', received 'json_schema'",
            "json_schema",
        ),
        (400, "Invalid type for response_format", "json_schema"),
        (400, "This model doesn't have structured outputs enabled", "json_schema"),
        (400, "unknown variant `json_schema`, expected `text` or `json_object`", "json_schema"),
        (400, "response_format type json_schema requires strict=true", "json_schema"),
        (400, "The requested model does not allow the parameter response_format", "json_schema"),
        (400, "json_schema not yet supported", "json_schema"),
        (400, "The JSON schema is too complex", "json_schema"),
        (400, "Schema is too complex for structured outputs: nesting depth 12 exceeds limit of 5", "json_schema"),
        (500, "tools param requires --jinja flag", "tool"),
        (500, "tool_choice param requires --jinja flag", "tool"),
        (
            404,
            "No endpoints found that support tool use. To learn more about provider routing, visit: https://openrouter.ai/docs",
            "tool",
        ),
        (400, "Function calling is not enabled for models/gemma-3-27b-it", "tool"),
        (400, "deepseek-reasoner does not support Function Calling", "tool"),
        (400, "`tool_choice`: only 'auto' and 'none' are supported", "tool"),
        (400, "Tool use is not available for this model", "tool"),
        (400, "tools are disabled", "tool"),
        (422, "tools: Extra inputs are not permitted", "tool"),
        (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set', "tool"),
        (400, "tool_choice 'required' is not supported", "tool"),
        (400, "The tool_choice parameter does not support being set to required or object in thinking mode", "tool"),
        (400, "Tool choice must be auto", "tool"),
        (400, "This model does not support function calls", "tool"),
        (400, "Unsupported tool_choice type: object", "tool"),
    ],
)
def test_whatever_the_status_a_way_to_ask_is_refused_by_its_name(status: int, message: str, form: SchemaForm) -> None:
    assert refused_part(says(message, status), RequestForm(schema=form)) == "schema"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (
            400,
            {
                "error": {
                    "message": "Provider returned error",
                    "code": 400,
                    "metadata": {
                        "raw": '{"error":{"message":"response_format json_schema is not supported"}}',
                        "provider_name": "X",
                    },
                }
            },
        ),
        (
            422,
            {
                "error": {
                    "code": "Invalid input",
                    "status": 422,
                    "message": "invalid input error",
                    "details": {
                        "type": "model_attributes_type",
                        "loc": ["body", "response_format"],
                        "msg": "Input should be a valid dictionary",
                        "input": "x",
                    },
                }
            },
        ),
        (
            400,
            [
                {
                    "error": {
                        "code": 400,
                        "message": GEMINI,
                        "status": "INVALID_ARGUMENT",
                    }
                }
            ],
        ),
        (
            422,
            {
                "detail": [
                    {
                        "type": "literal_error",
                        "loc": ["body", "response_format", "type"],
                        "msg": "Input should be 'text' or 'json_object'",
                        "input": "json_schema",
                    }
                ]
            },
        ),
        (
            422,
            {
                "detail": [
                    {
                        "loc": ["body", "response_format"],
                        "msg": "extra fields not permitted",
                        "type": "value_error.extra",
                    }
                ]
            },
        ),
        (400, {"message": "response_format is not supported", "code": 3051}),
        (500, "response_format not supported"),
        (400, {"error": "json_schema not supported"}),
        (400, {"errors": [{"message": "response_format: unknown field"}]}),
        (400, {"fault": {"faultstring": "response_format not allowed"}}),
        (
            422,
            {
                "object": "error",
                "message": {
                    "detail": [
                        {
                            "type": "literal_error",
                            "loc": ["body", "response_format", "type"],
                            "msg": "Input should be 'text', 'json_object'",
                        }
                    ]
                },
                "type": "invalid_request_error",
            },
        ),
        (400, {"error": {"message": "bad", "param": "response_format", "code": "unsupported_parameter"}}),
        (400, {"error": {"message": "Invalid value", "param": "response_format.type"}}),
    ],
)
def test_a_refusal_is_found_wherever_an_error_names_the_member(status: int, body: object) -> None:
    assert refused_part(refusal(status, json.dumps(body)), USUAL) == "schema"


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"error": {"message": "response_format is not supported", "code": 400}}, "schema"),
        ({"error": "response_format json_schema is not supported"}, "schema"),
        ({"error": {"message": "stream must be true"}}, "whole"),
        ({"error": {"message": "the model is overloaded"}}, None),
        ({"choices": [], "note": "response_format"}, None),
    ],
)
def test_a_refusal_within_a_reply_of_status_200_is_one(body: object, part: str | None) -> None:
    failure = inside(Reply(200, json.dumps(body).encode(), lambda _: None))
    assert (None if failure is None else refused_part(failure, USUAL)) == part


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
        says("The server had an error while it applied response_format json_schema", 500),
        says("A tool of the kitchen: out of memory", 500),
        says("Please shorten the text about grammar"),
        says("Requests are streamed to the model; too many images"),
    ],
)
def test_other_failures_are_no_refusals_of_a_form(failure: Failure) -> None:
    for schema in SCHEMA_FORMS:
        assert refused_part(failure, RequestForm(schema=schema)) is None
