"""What the replies of all APIs have in common: that they are JSON of a known shape, and say what they cost."""

from collections.abc import Callable, Iterable
from typing import Annotated, TypeVar

import msgspec

from rowmill.core.amounts import Spent
from rowmill.core.errors import BadReply, Declined, DeepReply, InvalidOutput
from rowmill.core.wire import Answer
from rowmill.tasks.mended import first_value, text_in
from rowmill.tasks.rows import UNREADABLE

NULL = msgspec.Raw(b"null")
_CACHED = b'"cached_tokens"'
Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]  # a sum of other ones would be no figure
Decoded = TypeVar("Decoded")


class Details(msgspec.Struct, gc=False):
    """What a usage says more of the prompt."""

    cached_tokens: Count | None = None


class _AnyUsage(msgspec.Struct, gc=False):
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    input_tokens: Count = 0  # as responses has it
    output_tokens: Count = 0


class _CachedUsage(msgspec.Struct, gc=False):
    prompt_tokens_details: Details | None = None
    input_tokens_details: Details | None = None  # as responses has it


class Outside(msgspec.Struct, gc=False):
    """What the replies of all APIs say beside their content."""

    model: msgspec.Raw = NULL
    usage: msgspec.Raw = NULL
    error: msgspec.Raw = NULL  # beside an answer, which it says is none, or broken


_decode_usage = msgspec.json.Decoder(_AnyUsage).decode
_decode_cached = msgspec.json.Decoder(_CachedUsage).decode
_decode_outside = msgspec.json.Decoder(Outside).decode


_NO_ERROR = frozenset({b"null", b"[]", b"{}", b'""', b"false", b"0"})
ERROR_BESIDE = "an error beside the answer"


def is_error(error: msgspec.Raw) -> bool:
    """Whether a member that stands beside an answer says that it is none, or a broken one."""
    return bytes(error) not in _NO_ERROR and not _says_nothing(error)


def _says_nothing(error: msgspec.Raw) -> bool:
    """Whether it is an object without a word in it, as `{"code": 0, "message": ""}` of servers that always have one."""
    try:
        members = msgspec.json.decode(error)
    except (msgspec.DecodeError, RecursionError):
        return False
    return isinstance(members, dict) and not any(members.values())


def believed(reply: Outside) -> None:
    """Raise `BadReply` where an error stands beside the answer."""
    if reply.error is not NULL and is_error(reply.error):
        raise BadReply(ERROR_BESIDE)


def decoded(decode: Callable[[bytes], Decoded], body: bytes, what: str) -> Decoded:
    """Decode a reply's body. Raises `BadReply` where it is none; `what` it should have been is for the message."""
    try:
        if not body.isascii():
            body.decode()  # raw members are passed on unread; what is no UTF-8 must not reach the output
        return decode(body)
    except UNREADABLE:
        return decoded_mended(decode, body, what)[0]


def decoded_mended(decode: Callable[[bytes], Decoded], body: bytes, what: str) -> tuple[Decoded, bytes]:
    """Decode a body that cannot be read as it is, and return with it the one that can. Raises as `decoded` does."""
    if not body:
        raise BadReply("the reply is empty")
    try:
        body = _mended_reply(body)
        return decode(body), body
    except RecursionError:
        raise DeepReply(f"no {what}: it is nested more deeply than can be read") from None
    except UNREADABLE as error:
        raise BadReply(f"no {what}: {error}") from None


def readable(body: bytes) -> bytes:
    """Return a body that was read as JSON that any reader takes: as it is, if it can be."""
    try:
        if not body.isascii():
            body.decode()
        _decode_outside(body)
    except UNREADABLE:
        return _mended_reply(body)
    return body


def _mended_reply(body: bytes) -> bytes:
    """Return the JSON of a body that is none as it is. Raises `BadReply` for a part of a stream of events."""
    text = text_in(body)
    if text.lstrip()[:1] not in ("{", "["):
        from rowmill.tasks import streamed

        text = streamed.without_comments(text)
        if streamed.is_stream(text):
            return streamed.encoded(streamed.assembled(text))
    return first_value(text).encode()


def counted(usage: bytes) -> tuple[int, int, int]:
    """Return the prompt, completion and cached prompt tokens of a usage; 0 for null, or a shape of its own."""
    try:
        tokens = _decode_usage(usage)
    except msgspec.DecodeError:
        return 0, 0, 0
    prompt = tokens.prompt_tokens + tokens.input_tokens
    return prompt, tokens.completion_tokens + tokens.output_tokens, cached(usage, prompt)


def readable_usage(usage: bytes) -> bool:
    """Whether a usage can be counted; one that is not there is as good as one of nothing."""
    try:
        return usage == NULL or bool(_decode_usage(usage))
    except msgspec.DecodeError:
        return False


def cached(usage: bytes, prompt_tokens: int) -> int:
    """Return how many of a usage's prompt tokens the provider had cached; 0 where it does not say."""
    if _CACHED not in usage:
        return 0
    try:
        tokens = _decode_cached(usage)
    except msgspec.DecodeError:
        return 0  # a shape of its own
    details = tokens.prompt_tokens_details or tokens.input_tokens_details
    return min(details.cached_tokens or 0, prompt_tokens) if details is not None else 0


def paid(body: bytes) -> Spent:
    """Return what a reply cost that is not to be read any further."""
    try:
        usage = bytes(_decode_outside(readable(body)).usage)
    except (*UNREADABLE, BadReply):
        return Spent(1)
    prompt, completion, cached_tokens = counted(usage)
    return Spent(1, prompt, cached_tokens, completion)


def shared(total: int, rows: int) -> list[int]:
    """Split tokens evenly among rows, so that their sum is right."""
    part, rest = divmod(total, rows)
    return [part + (number < rest) for number in range(rows)]


def alike(outputs: Iterable[bytes], rows: int, outside: Outside) -> list[Answer | InvalidOutput]:
    """Return the answers of rows that shared a request, none of which says why it ends.

    A row's part of the usage is not told: `usage` is null, so that no row's line depends on its neighbours.
    """
    prompt, completion = (shared(tokens, rows) for tokens in counted(bytes(outside.usage))[:2])
    model = bytes(outside.model)
    return [
        Answer(output, b"null", model, b"null", own_prompt, own_completion)
        for output, own_prompt, own_completion in zip(outputs, prompt, completion, strict=True)
    ]


def whole(parse: Callable[[bytes], Answer]) -> Callable[[bytes], Answer]:
    """Return a reader whose answers hold the reply's whole body. A refusal is a reply as any other there."""

    def parse_whole(body: bytes) -> Answer:
        try:
            answer = parse(body)
        except Declined:
            outside = _decode_outside(readable(body))
            usage = bytes(outside.usage)
            answer = Answer(b"", b"null", bytes(outside.model), usage, *counted(usage))
        return msgspec.structs.replace(answer, output=readable(body).strip())

    return parse_whole
