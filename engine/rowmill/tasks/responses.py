"""Responses: `POST /responses`, of which the text of all its messages is the answer.

Its finish reasons are told in the words of chat completions: "stop", "length", "content_filter", "tool_calls".
"""

from typing import Any

import msgspec

from rowmill.core.config import TaskConfig
from rowmill.core.errors import BadReply, Declined, EmptyReply
from rowmill.core.wire import Answer
from rowmill.tasks import chat
from rowmill.tasks.api import Api
from rowmill.tasks.contents import CALLS, Content, beside, decoded_object, filtered, texts_in
from rowmill.tasks.conversation import Parts
from rowmill.tasks.replies import ERROR_BESIDE, NULL, Outside, counted, decoded, is_error
from rowmill.tasks.rows import encode

_REASONS = {"max_output_tokens": b'"length"', "content_filter": b'"content_filter"'}
_NO_TEXT = "a response without text"
_NO_MORE = "no more is told"
_UNTOLD = (None, "", "null")


class _OutputPart(msgspec.Struct, gc=False):
    type: str = ""
    text: msgspec.Raw = NULL


class _OutputMessage(msgspec.Struct, gc=False):
    content: list[_OutputPart] = []


class _OutputItem(msgspec.Struct, gc=False):
    type: str = "message"


class _Incomplete(msgspec.Struct, gc=False):
    reason: str | None = None


class _ResponsesReply(Outside, gc=False, kw_only=True):
    output: list[msgspec.Raw] | None
    status: str | None = None
    incomplete_details: _Incomplete | None = None
    output_text: Any = None  # of servers that have no items, or beside them


class _OddReply(Outside, gc=False, kw_only=True):
    output: msgspec.Raw = NULL
    object: Any = None
    status: str | None = None
    incomplete_details: _Incomplete | None = None
    output_text: Any = None


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
        try:
            response = decoded(_decode, body, "response")
        except BadReply:
            if b'"choices"' in body:
                return chat.parse(body)  # a server that answers as a chat, wherever it was asked
            response = _read_odd(body)
        if response.status not in (None, "completed", "incomplete"):
            error = bytes(response.error)
            told = decoded_object(error).get("message") if error[:1] == b"{" else error.strip(b'"').decode()
            raise EmptyReply(f"a response that is {response.status}: {told if told not in _UNTOLD else _NO_MORE}")
        if is_error(response.error):
            raise BadReply(ERROR_BESIDE)
        output, finish_reason = _output(response)
        usage = bytes(response.usage)
        return Answer(output, finish_reason, bytes(response.model), usage, *counted(usage))


def _read_odd(body: bytes) -> _ResponsesReply:
    """Read a reply that is no response as it is: without output, or with a text or one item in its place."""
    odd = decoded(_decode_odd, body, "response")
    output = bytes(odd.output)
    if output == b"null" and odd.status is None and odd.object != "response" and not isinstance(odd.output_text, str):
        raise BadReply("no response: it has no output")
    read = _ResponsesReply(
        output=None, status=odd.status, incomplete_details=odd.incomplete_details, output_text=odd.output_text,
        model=odd.model, usage=odd.usage, error=odd.error,
    )  # fmt: skip
    if output[:1] == b'"':
        read.output_text = decoded(_decode_text, output, "response")
    elif output[:1] == b"{" and output != b"{}":
        read.output = [odd.output]
    elif output not in (b"null", b"{}"):
        raise BadReply("no response: its output is none")
    return read


def _output(response: _ResponsesReply) -> tuple[bytes, bytes]:
    """Return the answer as JSON, and why it ends where it does."""
    texts: list[bytes] = []
    calls: list[bytes] = []
    hosted: list[bytes] = []  # what the server has called itself, and what is no text
    images: list[bytes] = []
    thoughts: list[Any] = []
    refusal = ""
    for raw in response.output or ():
        item = bytes(raw)
        kind = decoded(_decode_item, item, "response").type
        if kind in CALLS:
            calls.append(item)
        elif kind == "message":
            refusal = _read_message(item, texts, hosted, thoughts) or refusal
        elif kind == "reasoning":
            thoughts.append(item)
        else:
            hosted.append(item)
            if kind == "image_generation_call":
                images.append(item)
    incomplete = response.status == "incomplete"
    reason = _reason(response) if incomplete else b'"stop"'
    if not response.output and isinstance(response.output_text, str) and response.output_text:
        texts.append(encode(response.output_text))
    text = _joined(texts)
    members = {"tool_calls": b"[%b]" % b",".join(calls)} if calls else {}
    if texts and images:
        members["images"] = b"[%b]" % b",".join(images)
    if refusal and (members or texts):
        members["refusal"] = encode(refusal)
    if members:
        return beside(text, members), b'"tool_calls"' if calls and not incomplete else reason
    if texts:
        return text, reason
    if refusal:
        raise Declined(refusal)
    if hosted:
        return b"[%b]" % b",".join(hosted), reason
    if not incomplete or (reason == b"null" and not response.output):
        thought = "".join(texts_in(decoded_object(each) if isinstance(each, bytes) else each) for each in thoughts)
        if thought:
            raise EmptyReply(f"{_NO_TEXT}: only reasoning, of {len(thought)} characters", encode(thought))
        raise EmptyReply(f"{_NO_TEXT}: only reasoning" if thoughts else _NO_TEXT)
    if filtered(reason):
        reason = b'"content_filter"'
    return b'""', reason  # cut before the first word: a result, and finish_reason says so


def _read_message(item: bytes, texts: list[bytes], others: list[bytes], thoughts: list[Any]) -> str:
    """Add what a message holds to the lists, its texts as JSON strings; returns its refusal, "" for none."""
    try:
        parts = _decode_message(item).content
        if all(part.type == "output_text" for part in parts):  # as nearly all are
            texts += [bytes(part.text) for part in parts if bytes(part.text) != b"null"]
            return ""
    except msgspec.DecodeError:
        pass
    whole = decoded_object(item)
    content = Content(whole.get("content"))
    if content.other:
        others.append(item)
    if content.texts:
        texts.append(encode(content.text))
    thoughts += content.thoughts
    refusal = whole.get("refusal")
    return content.refusal or (refusal if isinstance(refusal, str) else "")


def _joined(texts: list[bytes]) -> bytes:
    """Return texts as one JSON string; null for none."""
    if not texts:
        return b"null"
    if len(texts) == 1 and texts[0][:1] == b'"':
        return texts[0]
    return encode("".join(decoded(_decode_text, text, "response") for text in texts))


def _reason(response: _ResponsesReply) -> bytes:
    details = response.incomplete_details
    reason = details.reason if details is not None else None
    return encode(reason) if reason not in _REASONS else _REASONS[reason]


_decode = msgspec.json.Decoder(_ResponsesReply).decode
_decode_odd = msgspec.json.Decoder(_OddReply).decode
_decode_item = msgspec.json.Decoder(_OutputItem).decode
_decode_message = msgspec.json.Decoder(_OutputMessage).decode
_decode_text = msgspec.json.Decoder(str).decode
