"""Responses: `POST /responses`, of which the text of all its messages is the answer.

Its finish reasons are told in the words of chat completions: "stop", "length", "content_filter", "tool_calls".
"""

from typing import Any

import msgspec

from rowmill.core.config import TaskConfig
from rowmill.core.errors import BadReply, Declined
from rowmill.core.wire import Answer
from rowmill.tasks.api import Api
from rowmill.tasks.conversation import Parts
from rowmill.tasks.replies import NULL, Outside, counted, decoded
from rowmill.tasks.rows import encode

_REASONS = {"max_output_tokens": b'"length"', "content_filter": b'"content_filter"'}
_CALLS = frozenset({"function_call", "custom_tool_call", "computer_call", "local_shell_call", "shell_call"})


class _OutputPart(msgspec.Struct, gc=False):
    type: str = ""
    text: msgspec.Raw = NULL
    refusal: str | None = None


class _OutputMessage(msgspec.Struct, gc=False):
    content: list[_OutputPart] | str | None = None


class _OutputItem(msgspec.Struct, gc=False):
    type: str = "message"


class _Incomplete(msgspec.Struct, gc=False):
    reason: str | None = None


class _ResponsesError(msgspec.Struct, gc=False):
    code: str | int | None = None
    message: str | None = None


class _ResponsesReply(Outside, gc=False, kw_only=True):
    output: list[msgspec.Raw]
    status: str | None = None
    incomplete_details: _Incomplete | None = None
    error: _ResponsesError | None = None


class Responses(Api):
    """The API as tasks know it."""

    caps = ("max_output_tokens",)
    parts = Parts(
        text=lambda text: {"type": "input_text", "text": text},
        image=lambda url: {"type": "input_image", "image_url": url},
    )

    def fixed(self, config: TaskConfig, *, whole_reply: bool) -> dict[str, Any]:  # noqa: ARG002 - see `api.Api`
        """Return the members that are the same in every request."""
        instructions = {} if config.system is None else {"instructions": config.system}
        return {**config.params, **instructions}

    def content(self, system: str | None, question: str | list[dict[str, Any]]) -> dict[str, Any]:
        """Return the instructions and the input of one row."""
        return {"input": question} if system is None else {"instructions": system, "input": question}

    @staticmethod
    def parse(body: bytes) -> Answer:
        """Read the body of a 2xx reply. Raises `BadReply` where it is none, `Declined` where the model declined."""
        response = decoded(_decode, body, "response")
        if response.status not in (None, "completed", "incomplete"):
            told = (
                response.error.message if response.error is not None and response.error.message else "no more is told"
            )
            raise BadReply(f"a response that is {response.status}: {told}")
        output, finish_reason = _output(response)
        usage = bytes(response.usage)
        return Answer(output, finish_reason, bytes(response.model), usage, *counted(usage))


def _output(response: _ResponsesReply) -> tuple[bytes, bytes]:
    """Return the answer as JSON, and why it ends where it does."""
    texts: list[bytes] = []
    calls: list[bytes] = []
    refusal = ""
    for raw in response.output:
        kind = decoded(_decode_item, bytes(raw), "response").type
        if kind in _CALLS:
            calls.append(bytes(raw))
        elif kind == "message":
            content = decoded(_decode_message, bytes(raw), "response").content
            if isinstance(content, str):  # as some other servers answer
                texts.append(encode(content))
                continue
            for part in content or ():
                if part.type == "output_text" and bytes(part.text) != b"null":
                    texts.append(bytes(part.text))
                refusal = refusal or part.refusal or ""
    incomplete = response.status == "incomplete"
    reason = _reason(response) if incomplete else b'"stop"'
    if texts:
        if len(texts) == 1 and texts[0][:1] == b'"':
            return texts[0], reason
        return encode("".join(decoded(_decode_text, text, "response") for text in texts)), reason
    if calls:
        return b"[%b]" % b",".join(calls), reason if incomplete else b'"tool_calls"'
    if refusal:
        raise Declined(refusal)
    if not incomplete:
        raise BadReply("a response without text")
    return b'""', reason  # cut before the first word: a result, and finish_reason says so


def _reason(response: _ResponsesReply) -> bytes:
    details = response.incomplete_details
    reason = details.reason if details is not None else None
    return encode(reason) if reason not in _REASONS else _REASONS[reason]


_decode = msgspec.json.Decoder(_ResponsesReply).decode
_decode_item = msgspec.json.Decoder(_OutputItem).decode
_decode_message = msgspec.json.Decoder(_OutputMessage).decode
_decode_text = msgspec.json.Decoder(str).decode
