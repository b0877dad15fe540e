"""`/embeddings`: a vector of each text, made from the text alone.

A vector is made of sixteen stretches of a pool of normally distributed numbers, scaled to a length of about 1. Where
each begins follows from one of the text's words: from the least of those that a hash has put into its band. Texts that
share most of their words so share most of their stretches, and the cosine of their vectors is about the part of all
their words that they share (one-permutation MinHash: Li, Owen and Zhang 2012; a band without a word takes the next
one's, Shrivastava and Li 2014). Of a text of few words they follow from its digest. The first numbers are that digest:
so each text has a vector of its own, at the price of a copy.
"""

from array import array
from base64 import b64encode
from functools import lru_cache
from hashlib import blake2b
from random import Random
from struct import Struct
from sys import byteorder
from typing import Literal

import msgspec
from zlib_ng.zlib_ng import crc32

from rowmill.simulator.replies import wording
from rowmill.simulator.replies.reply import Completion, Damage, RequestError, encode, read, require_model

DIMENSIONS = 1536  # of a vector whose request does not say
INPUTS = 2048  # texts in a request
TOKENS = 300_000  # of all texts of a request
INPUT_TOKENS = 8192  # of one text

_MOST_DIMENSIONS = 16_384
_SPREAD = 16_384  # places in the pool at which a stretch can begin
_STRETCHES = 16
_FEW_WORDS = 4  # of which one more or less says nothing
_LOOKED_AT = 4000  # characters of a text whose words are looked at
_NO_WORD = 1 << 32  # above every CRC-32
_FAR_APART = 40_503  # odd: words whose hashes are neighbours begin at places that are none
_FLOAT = 4  # bytes
_DIGEST = Struct("<8H")  # 16 bytes of digest, as numbers
_HEAD = Struct("<8f")  # the same as the first numbers of the vector
_MIDDLE, _SCALE = 32_768, 2.0**-20  # float32 holds the products exactly


class EmbeddingsRequest(msgspec.Struct, gc=False):
    """What the simulator reads of a request body. Lists of tokens in the place of texts are not taken."""

    model: str
    input: str | list[str]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None


_decoder = msgspec.json.Decoder(EmbeddingsRequest)


def compose(body: bytes, mark: bytes, _mean_tokens: float = 0.0, _damage: Damage | None = None) -> Completion:  # noqa: ARG001 - every route composes by the same signature
    """Answer a request body. Raises `RequestError` for a request that is wrong."""
    request = read(_decoder, body)
    require_model(request.model)
    texts = [request.input] if isinstance(request.input, str) else request.input
    tokens = _tokens(texts)
    dimensions = DIMENSIONS if request.dimensions is None else request.dimensions
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise _wrong(f"Invalid 'dimensions': expected 1 to {_MOST_DIMENSIONS}, but got {dimensions}.", "dimensions")
    write = _as_base64 if request.encoding_format == "base64" else _as_list
    # Put together by hand: an encoder would look at each character of a text of 16 MB.
    data = b",".join(
        b'{"object":"embedding","index":%d,"embedding":%b}' % (index, write(vector(text, dimensions)))
        for index, text in enumerate(texts)
    )
    usage = encode({"prompt_tokens": tokens, "total_tokens": tokens})
    reply = b'{"object":"list","data":[%b],"model":%b,"usage":%b}' % (data, encode(request.model), usage)
    return Completion(reply, tokens, 0, tokens, len(texts))


def vector(text: str, dimensions: int = DIMENSIONS) -> bytes:
    """Make the vector of a text: little-endian float32."""
    mark = blake2b(text.encode(), digest_size=_DIGEST.size).digest()
    numbers = _DIGEST.unpack(mark)
    head = _HEAD.pack(*[(number - _MIDDLE) * _SCALE for number in numbers])
    pool = _pool(dimensions)
    length = dimensions // _STRETCHES + 1
    starts = _places(text) or [(numbers[each % 8] * (each | 1)) % _SPREAD for each in range(_STRETCHES)]
    stretches = [pool[start * _FLOAT : (start + length) * _FLOAT] for start in starts]
    return b"".join((head, *stretches))[: dimensions * _FLOAT]


def _places(text: str) -> list[int] | None:
    """Return where in the pool the stretches of a text begin, by its words; None where it has few."""
    words = set(text[:_LOOKED_AT].lower().split())
    if len(words) < _FEW_WORDS:
        return None
    bands = [_NO_WORD] * _STRETCHES
    for word in words:
        value = crc32(word.encode())
        band = value % _STRETCHES
        bands[band] = min(bands[band], value)
    last = next(value for value in bands if value != _NO_WORD)
    for band in reversed(range(_STRETCHES)):
        last = bands[band] = last if bands[band] == _NO_WORD else bands[band]
    return [(value * _FAR_APART + band) % _SPREAD for band, value in enumerate(bands)]


@lru_cache(maxsize=8)
def _pool(dimensions: int) -> bytes:
    random = Random(dimensions)  # noqa: S311 - repeatable, no secret
    pool = array("f", (random.gauss(0, dimensions**-0.5) for _ in range(_SPREAD + dimensions)))
    if byteorder == "big":
        pool.byteswap()
    return pool.tobytes()


def _as_base64(made: bytes) -> bytes:
    return b'"%b"' % b64encode(made)


def _as_list(made: bytes) -> bytes:
    numbers = array("f", made)
    if byteorder == "big":
        numbers.byteswap()
    return encode(numbers.tolist())


def _tokens(texts: list[str]) -> int:
    if not 1 <= len(texts) <= INPUTS:
        raise _wrong(f"Invalid 'input': expected 1 to {INPUTS} inputs, but got {len(texts)}.", "input")
    tokens = 0
    for index, text in enumerate(texts):
        if not text:
            raise _wrong(f"Invalid 'input[{index}]': input cannot be an empty string.", "input")
        own = wording.tokens(len(text))
        if own > INPUT_TOKENS:
            raise _wrong(
                f"Invalid 'input[{index}]': maximum input length is {INPUT_TOKENS} tokens, but got {own}.", "input"
            )
        tokens += own
    if tokens > TOKENS:
        raise RequestError(
            400,
            f"Requested {tokens} tokens, max {TOKENS} tokens per request",
            code="max_tokens_per_request",
            kind="max_tokens_per_request",
        )
    return tokens


def _wrong(message: str, param: str) -> RequestError:
    return RequestError(400, message, param=param)
