"""`/responses`."""

from typing import Any

import msgspec

from rowmill.simulator.replies.dialogue import ChatMessage, Said, Tool, form_of, say, wanted
from rowmill.simulator.replies.reply import Completion, Damage, RequestError, created, encode, read, require_possible

_LEAST_CAP = 16  # tokens, as at OpenAI
_SCHEMA = "text.format.schema"


class _TextFormat(msgspec.Struct, gc=False):
    type: str = "text"
    schema: msgspec.Raw = msgspec.Raw()


class _TextOptions(msgspec.Struct, gc=False):
    format: _TextFormat | None = None


_PLAIN = _TextOptions()


class ResponsesRequest(msgspec.Struct, gc=False):
    """What the simulator reads of a request body; items of the input that are no messages count as empty."""

    model: str
    input: str | list[ChatMessage]
    instructions: str | None = None
    max_output_tokens: int | None = None
    text: _TextOptions | None = None
    tools: list[Tool] = []
    tool_choice: str | Tool = ""
    stream: bool | None = None


class _AsSent(msgspec.Struct, gc=False):
    """The members that the reply repeats, and what it says where they are missing."""

    instructions: msgspec.Raw = msgspec.Raw(b"null")
    metadata: msgspec.Raw = msgspec.Raw(b"{}")
    text: msgspec.Raw = msgspec.Raw(b'{"format":{"type":"text"}}')
    temperature: msgspec.Raw = msgspec.Raw(b"1.0")
    top_p: msgspec.Raw = msgspec.Raw(b"1.0")


_decoder = msgspec.json.Decoder(ResponsesRequest)
_sent_decoder = msgspec.json.Decoder(_AsSent)


def compose(body: bytes, mark: bytes, mean_tokens: float = 0.0, damage: Damage | None = None) -> Completion:
    """Answer a request body whose `fingerprint` is `mark`, as `chat.compose` does."""
    request = read(_decoder, body)
    if not request.input:
        raise RequestError(400, "Missing required parameter: 'input'.", code="missing_required_parameter")
    cap = request.max_output_tokens
    require_possible(request.model, cap, request.stream, _LEAST_CAP)
    messages = [ChatMessage("user", request.input)] if isinstance(request.input, str) else request.input
    if request.instructions:
        messages = [ChatMessage("system", request.instructions), *messages]
    format_ = (request.text or _PLAIN).format or _TextFormat()
    forced = "" if isinstance(request.tool_choice, str) else request.tool_choice.name
    form = wanted(messages, form_of(format_.type, format_.schema, _SCHEMA), request.tools, forced)
    said = say(
        form.messages,
        mark,
        cap=cap,
        mean_tokens=mean_tokens,
        form=form.schema,
        damage=damage,
        param="input",
        form_param=_SCHEMA,
    )
    sent = _sent_decoder.decode(body)
    at = created(mark)
    reply = {
        "id": f"resp_{mark.hex()}",
        "object": "response",
        "created_at": at,
        "status": "incomplete" if said.cut else "completed",
        "background": False,
        "completed_at": None if said.cut else at,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if said.cut else None,
        "instructions": sent.instructions,
        "max_output_tokens": cap,
        "model": request.model,
        "output": [_call(said, mark, form.tool) if form.tool and not said.refused else _message(said, mark)],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": False,
        "temperature": sent.temperature,
        "text": sent.text,
        "tool_choice": "auto",
        "tools": [],
        "top_p": sent.top_p,
        "truncation": "disabled",
        "usage": {
            "input_tokens": said.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": said.tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": said.prompt_tokens + said.tokens,
        },
        "user": None,
        "metadata": sent.metadata,
    }
    return said.put_into(encode(reply))


def _call(said: Said, mark: bytes, tool: str) -> dict[str, Any]:
    return {
        "id": f"fc_{mark.hex()}",
        "type": "function_call",
        "status": "completed",
        "call_id": f"call_{mark.hex()}",
        "name": tool,
        "arguments": said.text,
    }


def _message(said: Said, mark: bytes) -> dict[str, Any]:
    content: dict[str, Any] = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
    return {
        "id": f"msg_{mark.hex()}",
        "type": "message",
        "status": "incomplete" if said.cut else "completed",
        "role": "assistant",
        "content": [{"type": "refusal", "refusal": said.text} if said.refused else content],
    }
