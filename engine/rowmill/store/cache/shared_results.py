"""What came of a request, as bytes, for all rows that share it: the claims of a run and the persistent store keep it.

Nothing of a row is in it, no id and no index, so it can be given to any row that asks the same.
A change of this form, or of the members of `Answer`, is another version of the persistent store: `replies.FORMAT`.
"""

import msgspec

from rowmill.core.wire import Answer, Failure

_ANSWER, _WITH_PARTS, _FAILURE = b"a", b"p", b"f"
_MEMBERS = 6  # how much of a prompt the provider had cached says nothing of another row
_encoder = msgspec.msgpack.Encoder()
_answers = msgspec.msgpack.Decoder(tuple[bytes, bytes, bytes, bytes, int, int])
_with_parts = msgspec.msgpack.Decoder(tuple[bytes, bytes, bytes, bytes, int, int, bytes])
_failures = msgspec.msgpack.Decoder(Failure)


def encode(result: Answer | Failure) -> bytes:
    """Return the result as bytes."""
    if type(result) is Answer:
        members = msgspec.structs.astuple(result)[:_MEMBERS]
        if result.more:
            return _WITH_PARTS + _encoder.encode((*members, result.more))
        return _ANSWER + _encoder.encode(members)
    return _FAILURE + _encoder.encode(result)


def decode(data: bytes) -> Answer | Failure:
    """Return the result that `encode` was given. Raises `msgspec.DecodeError` for other bytes."""
    rest = memoryview(data)[1:]
    if data[:1] == _ANSWER:
        return Answer(*_answers.decode(rest))
    if data[:1] == _WITH_PARTS:
        output, finish_reason, model, usage, prompt, completion, more = _with_parts.decode(rest)
        return Answer(output, finish_reason, model, usage, prompt, completion, more=more)
    return _failures.decode(rest)
