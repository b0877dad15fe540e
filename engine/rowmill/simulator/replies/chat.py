"""`/chat/completions`."""

from typing import Any

import msgspec

from rowmill.simulator.replies.dialogue import ChatMessage, Said, Tool, choices, form_of, wanted
from rowmill.simulator.replies.reply import (
    Completion,
    Damage,
    RequestError,
    created,
    encode,
    read,
    require_choices,
    require_possible,
)


class _JsonSchema(msgspec.Struct, frozen=True, gc=False):
    schema: msgspec.Raw = msgspec.Raw()


class _ResponseFormat(msgspec.Struct, frozen=True, gc=False):
    type: str = "text"
    json_schema: _JsonSchema = _JsonSchema()


class _FunctionTool(msgspec.Struct, frozen=True, gc=False):
    function: Tool = Tool()


_PLAIN = _ResponseFormat()


class ChatRequest(msgspec.Struct, gc=False):
    """What the simulator reads of a request body; everything else is let through unread."""

    model: str
    messages: list[ChatMessage]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream: bool | None = None
    n: int | None = None
    response_format: _ResponseFormat | None = None
    tools: list[_FunctionTool] = []
    tool_choice: str | _FunctionTool = ""


# Written once: they are the same in every reply.
_PROMPT_DETAILS = msgspec.Raw(b'{"cached_tokens":0,"audio_tokens":0}')
_COMPLETION_DETAILS = msgspec.Raw(
    b'{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}'
)


class CompletionUsage(msgspec.Struct, gc=False):
    """The usage of chat and text completions."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: msgspec.Raw = _PROMPT_DETAILS
    completion_tokens_details: msgspec.Raw = _COMPLETION_DETAILS


class _AssistantMessage(msgspec.Struct, gc=False):
    content: str | None
    refusal: str | None
    role: str = "assistant"
    annotations: tuple[()] = ()


class _CallingMessage(_AssistantMessage, gc=False):
    tool_calls: list[dict[str, Any]] = []


class _AssistantChoice(msgspec.Struct, gc=False):
    message: _AssistantMessage
    finish_reason: str
    index: int = 0
    logprobs: None = None


class _ChatReply(msgspec.Struct, gc=False):  # as structs, for a dict takes the encoder half as long again
    id: str
    created: int
    model: str
    choices: list[_AssistantChoice]
    usage: CompletionUsage
    object: str = "chat.completion"
    service_tier: str = "default"
    system_fingerprint: str = "fp_rowmill"


_decoder = msgspec.json.Decoder(ChatRequest)


def compose(body: bytes, mark: bytes, mean_tokens: float = 0.0, damage: Damage | None = None) -> Completion:
    """Answer a request body whose `fingerprint` is `mark`. Raises `RequestError` for a request that is wrong.

    With `mean_tokens` the reply's length is log-normal around that mean, drawn from the body alone, and a cap
    shortens it before its digest, not after. `damage` strikes where the content is JSON that was asked for.
    """
    request = read(_decoder, body)
    if not request.messages:
        raise RequestError(400, "[] is too short - 'messages'", param="messages")
    cap = request.max_completion_tokens if request.max_completion_tokens is not None else request.max_tokens
    require_possible(request.model, cap, request.stream)
    format_ = request.response_format or _PLAIN
    schema = form_of(format_.type, format_.json_schema.schema, "response_format.json_schema")
    forced = "" if isinstance(request.tool_choice, str) else request.tool_choice.function.name
    form = wanted(request.messages, schema, [each.function for each in request.tools], forced)
    n = require_choices(request.n)
    said, *others = choices(form.messages, mark, n, cap=cap, mean_tokens=mean_tokens, form=form.schema, damage=damage)
    tokens = said.tokens + sum(each.tokens for each in others)
    reply = _ChatReply(
        f"chatcmpl-{mark.hex()}",
        created(mark),
        request.model,
        [_choice(each, index, form.tool) for index, each in enumerate([said, *others])],
        CompletionUsage(said.prompt_tokens, tokens, said.prompt_tokens + tokens),
    )
    return said.put_into(encode(reply), others)


def _choice(said: Said, index: int, tool: str) -> _AssistantChoice:
    message = _AssistantMessage(None, said.text) if said.refused else _AssistantMessage(said.text, None)
    if tool and not said.refused:
        call = {"id": f"call_{index}", "type": "function", "function": {"name": tool, "arguments": said.text}}
        message = _CallingMessage(None, None, tool_calls=[call])
    return _AssistantChoice(message, "length" if said.cut else "stop", index)
