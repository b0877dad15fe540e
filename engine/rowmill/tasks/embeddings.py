"""Embeddings: `POST /embeddings`, of which the vector is the answer: base64 of little-endian float32, a JSON string.

Base64 is a third of the size of a list of numbers and is passed on as it stands in the reply. A server that answers
with a list in spite of it is taken too. Several rows go out in one request; their vectors are told apart by "index".
"""

import base64
import string
import struct
from typing import Any

import msgspec

from rowmill.core.config import TaskConfig
from rowmill.core.errors import BadReply, InvalidOutput
from rowmill.core.wire import Answer
from rowmill.tasks.api import Api
from rowmill.tasks.replies import Outside, alike, believed, counted, decoded
from rowmill.tasks.rows import encode

_BYTES_A_NUMBER = 4
_QUOTE = b'"'
_ALPHABET = f"{string.ascii_letters}{string.digits}+/".encode()
_PADDINGS = (b"", b"=", b"==")


class _Embedding(msgspec.Struct, gc=False):
    embedding: msgspec.Raw
    index: int | None = None  # some small servers tell none


class _EmbeddingsReply(Outside, gc=False, kw_only=True):
    data: list[_Embedding]


class Embeddings(Api):
    """The API as tasks know it."""

    def fixed(self, config: TaskConfig, *, whole_reply: bool) -> dict[str, Any]:
        """Return the members that are the same in every request.

        A reply that is passed on whole is left in the format that the user asks for, or the server chooses.
        """
        return dict(config.params) if whole_reply else {"encoding_format": "base64", **config.params}

    @staticmethod
    def parse(body: bytes) -> Answer:
        """Read the body of a 2xx reply to one input. Raises `BadReply` where it is none."""
        reply = decoded(_decode, body, "embedding")
        (vector,) = _vectors(reply, 1)
        usage = bytes(reply.usage)
        return Answer(vector, b"null", bytes(reply.model), usage, *counted(usage))

    @staticmethod
    def unpack(body: bytes, rows: int) -> list[Answer | InvalidOutput]:
        """Read the body of a 2xx reply to several inputs. Raises `BadReply` where it is none.

        A vector that is none among others (of NaN, as models in half precision have it) is that row's own affair.
        """
        reply = decoded(_decode, body, "embedding")
        troubles: dict[int, BadReply] = {}
        found: list[Answer | InvalidOutput] = list(alike(_vectors(reply, rows, troubles), rows, reply))
        if len(troubles) == rows:
            raise next(iter(troubles.values()))
        for index, trouble in troubles.items():
            answer = found[index]
            assert isinstance(answer, Answer), "no other is among them"
            found[index] = InvalidOutput(str(trouble), answer)
        return found


def _vectors(reply: _EmbeddingsReply, rows: int, troubles: dict[int, BadReply] | None = None) -> list[bytes]:
    """Return the vectors in the order of the inputs, each as a JSON string of base64.

    troubles: takes what is wrong with single ones, which are "" then; without it that is raised.
    """
    believed(reply)
    if len(reply.data) != rows:
        raise BadReply(f"a reply of {len(reply.data)} embeddings for {rows} inputs")
    vectors: list[bytes | None] = [None] * rows
    for number, each in enumerate(reply.data):
        index = number if each.index is None else each.index
        if not 0 <= index < rows or vectors[index] is not None:
            raise BadReply(f"a reply whose embeddings are numbered wrongly: {index} of {rows}")
        try:
            vectors[index] = _vector(bytes(each.embedding))
        except BadReply as trouble:
            if troubles is None:
                raise
            vectors[index], troubles[index] = b'""', trouble
    return vectors  # type: ignore[return-value]  # so many different places are all of them


def _vector(value: bytes) -> bytes:
    """Check a vector, for what cannot be decoded would be found only when its shard is sealed."""
    if value[:1] != _QUOTE:
        return _of_numbers(value)
    if b"\\" in value:  # "\/", as some encoders write a slash
        value = encode(decoded(_decode_text, value, "embedding"))
    text = value[1:-1]
    padding = text.translate(None, _ALPHABET)  # a sixth of the time of decoding it
    if len(text) % 4 or padding not in _PADDINGS or not text.endswith(padding):
        raise BadReply("an embedding that is no base64")
    size = len(text) // 4 * 3 - len(padding)
    if not size or size % _BYTES_A_NUMBER:
        raise BadReply(f"an embedding of {size} bytes, which are no float32 numbers")
    return value


def _of_numbers(value: bytes) -> bytes:
    numbers = decoded(_decode_numbers, value, "embedding")
    try:
        packed = struct.pack(f"<{len(numbers)}f", *numbers)
    except OverflowError:
        raise BadReply("an embedding with a number that no float32 can hold") from None
    if not packed:
        raise BadReply("an embedding without numbers")
    return b'"%b"' % base64.b64encode(packed)


_decode = msgspec.json.Decoder(_EmbeddingsReply).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_numbers = msgspec.json.Decoder(list[float]).decode
