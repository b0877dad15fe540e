"""What the simulator says: chat completions and errors in OpenAI's shapes, computed from the request body alone."""

from hashlib import blake2b
from math import cos, exp, log, sqrt, tau
from typing import Any

import msgspec

CHARS_PER_TOKEN = 4
CONTEXT_TOKENS = 128_000  # prompt and nothing else: a longer prompt is refused
MODELS = ("sim-small", "sim-large")  # what /v1/models lists; any other name is answered too
UNKNOWN_MODEL = "unknown"  # a model whose name starts so does not exist
FILTERED = "[[filter]]"  # a user message with this is refused by the content filter
REFUSED = "[[refuse]]"  # a user message with this is answered by a refusal

_BORN = 1_750_000_000  # Unix time that `created` counts from: fixed, so that a reply does not depend on the clock
_SPAN_S = 10_000_000
_LENGTH_SIGMA = 0.8  # of the log-normal length of replies: one in twenty is more than three times the median
_HEAD_CHARS = 600  # of a message: enough for the words of a summary, cheap for a 10 MB row
_WORDS = 12
_FILLER = "It is told here at the length that was asked for, and so it goes on for a while. "


class RequestError(Exception):
    """The request is answered by an error of its own making."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(message, kind=kind, code=code, param=param)


class Part(msgspec.Struct, gc=False):
    """One part of a message's content; parts without text count as empty."""

    text: str = ""


class Message(msgspec.Struct, gc=False):
    """A message of the request."""

    role: str
    content: str | list[Part] | None = None

    def text(self) -> str:
        """Join the text of all parts."""
        content = self.content
        if isinstance(content, str):
            return content
        return "".join(part.text for part in content or ())


class ChatRequest(msgspec.Struct, gc=False):
    """What the simulator reads of a request body; everything else is let through unread."""

    model: str
    messages: list[Message]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream: bool | None = None

    def token_cap(self) -> int | None:
        """Tell how many tokens the reply may have; None where the request sets no cap."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens


class Completion(msgspec.Struct, frozen=True, gc=False):
    """A composed reply."""

    body: bytes
    prompt_tokens: int
    completion_tokens: int
    charge: int  # tokens charged against the limit: prompt and the cap, or the reply where there is no cap


_request_decoder = msgspec.json.Decoder(ChatRequest)
_encode = msgspec.json.Encoder().encode


def digest(text: str) -> str:
    """Eight hex digits of a user message. The reply to it ends in `[digest]`, unless `max_tokens` cut it."""
    return blake2b(text.encode(), digest_size=4).hexdigest()


def fingerprint(body: bytes) -> bytes:
    """16 bytes that stand for a request body: the same in every process."""
    return blake2b(body, digest_size=16).digest()


def compose(body: bytes, mark: bytes, mean_tokens: float = 0.0) -> Completion:
    """Answer a request body whose `fingerprint` is `mark`. Raises `RequestError` for a request that is wrong.

    With `mean_tokens` the reply's length is log-normal around that mean, drawn from the body alone, and a cap
    shortens it before its digest, not after.
    """
    request = _read(body)
    texts = [message.text() for message in request.messages]
    prompt_tokens = _tokens(sum(map(len, texts)))
    if prompt_tokens > CONTEXT_TOKENS:
        raise RequestError(
            400,
            f"This model's maximum context length is {CONTEXT_TOKENS} tokens. However, your messages resulted in "
            f"{prompt_tokens} tokens. Please reduce the length of the messages.",
            code="context_length_exceeded",
            param="messages",
        )
    question = ""
    refuse = False
    for message, text in zip(request.messages, texts, strict=True):
        if message.role == "user":
            question = text
            if FILTERED in text:
                raise RequestError(
                    400, "The prompt was flagged by the content filter.", code="content_filter", param="prompt"
                )
            refuse = refuse or REFUSED in text
    text = "I can't help with that." if refuse else _summary(question)
    cap = request.token_cap()
    finish_reason = "stop"
    if mean_tokens and not refuse:
        wanted = _length(mark, mean_tokens)
        text = _stretched(text, wanted if cap is None else min(wanted, cap))
        finish_reason = "stop" if cap is None or wanted <= cap else "length"
    if cap is not None and len(text) > cap * CHARS_PER_TOKEN:
        text = text[: cap * CHARS_PER_TOKEN]
        finish_reason = "length"
    completion_tokens = _tokens(len(text))
    answer: dict[str, Any] = {
        "role": "assistant",
        "content": None if refuse else text,
        "refusal": text if refuse else None,
        "annotations": [],
    }
    reply = {
        "id": f"chatcmpl-{mark.hex()}",
        "object": "chat.completion",
        "created": _BORN + int.from_bytes(mark[:4]) % _SPAN_S,
        "model": request.model,
        "choices": [{"index": 0, "message": answer, "logprobs": None, "finish_reason": finish_reason}],
        "usage": _usage(prompt_tokens, completion_tokens),
        "service_tier": "default",
        "system_fingerprint": "fp_rowmill",
    }
    return Completion(
        body=_encode(reply),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        charge=prompt_tokens + (cap if cap is not None else completion_tokens),
    )


def models() -> bytes:
    """Build the body of `/v1/models`."""
    data = [{"id": name, "object": "model", "created": _BORN, "owned_by": "rowmill"} for name in MODELS]
    return _encode({"object": "list", "data": data})


def error_body(message: str, *, kind: str, code: str | None, param: str | None = None) -> bytes:
    """Build an error in OpenAI's shape; `kind` is its "type"."""
    return _encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def _read(body: bytes) -> ChatRequest:
    try:
        request = _request_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(400, f"We could not parse the body of your request: {error}") from None
    if not request.messages:
        raise RequestError(400, "[] is too short - 'messages'", param="messages")
    if request.model.startswith(UNKNOWN_MODEL):
        raise RequestError(
            404,
            f"The model `{request.model}` does not exist or you do not have access to it.",
            code="model_not_found",
            param="model",
        )
    if request.stream:
        raise RequestError(400, "The simulator does not stream.", code="unsupported_value", param="stream")
    cap = request.token_cap()
    if cap is not None and cap < 1:
        raise RequestError(
            400, f"Expected a value of at least 1, but got {cap}.", code="integer_below_min_value", param="max_tokens"
        )
    return request


def _tokens(chars: int) -> int:
    return max(1, chars // CHARS_PER_TOKEN)


def _summary(question: str) -> str:
    head = question[:_HEAD_CHARS]
    # Rows of one run share their instruction ("Summarise this:"): what follows it makes the more telling line.
    _, _, after = head.partition(":\n")
    words = (after.strip() or head).split()[:_WORDS]
    return f"In short: {' '.join(words)} [{digest(question)}]"


def _length(mark: bytes, mean_tokens: float) -> int:
    """Draw a reply's tokens from a body's fingerprint alone, by the Box-Muller transform."""
    one = (int.from_bytes(mark[8:12]) + 1) / 2**32  # above 0: its logarithm is taken
    other = int.from_bytes(mark[12:16]) / 2**32
    normal = sqrt(-2 * log(one)) * cos(tau * other)
    return max(1, round(mean_tokens * exp(_LENGTH_SIGMA * normal - _LENGTH_SIGMA**2 / 2)))


def _stretched(summary: str, tokens: int) -> str:
    """Make a summary so many tokens long, by more words or fewer. The digest at its end stays, if it has room."""
    chars = tokens * CHARS_PER_TOKEN
    words, _, mark = summary.rpartition(" ")
    room = chars - len(mark) - 1
    if room > len(words):
        words += " " + _FILLER * (room // len(_FILLER) + 1)
    return f"{words[:room]} {mark}" if room > 0 else mark[:chars]


def _usage(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
