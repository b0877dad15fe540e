"""What every route shares: a composed reply, a request that is refused, and what makes it so."""

from hashlib import blake2b
from typing import TypeVar

import msgspec

CONTEXT_TOKENS = 128_000  # prompt and nothing else: a longer prompt is refused
MOST_CHOICES = 128  # of one prompt
MODELS = ("sim-small", "sim-large")  # what /v1/models lists; any other name is answered too
UNKNOWN_MODEL = "unknown"  # a model whose name starts so does not exist

_BORN = 1_750_000_000  # Unix time that `created` counts from: fixed, so that a reply does not depend on the clock
_SPAN_S = 10_000_000
_T = TypeVar("_T")
encode = msgspec.json.Encoder().encode


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


class Completion(msgspec.Struct, frozen=True, gc=False):
    """A composed reply."""

    body: bytes
    prompt_tokens: int
    completion_tokens: int
    charge: int  # tokens charged against the limit: prompt and the cap, or the reply where there is no cap
    inputs: int = 1  # texts that the request asked about: more in a pack and in lists of texts
    structured: bool = False  # its content is JSON that was asked for, which content faults may damage


class Damage(msgspec.Struct):
    """A content fault of one reply."""

    kind: str
    draw: int  # 64 random bits: where it strikes
    struck: bool = False  # the reply had something to strike


def fingerprint(body: bytes) -> bytes:
    """16 bytes that stand for a request body: the same in every process."""
    return blake2b(body, digest_size=16).digest()


def created(mark: bytes) -> int:
    """Tell the Unix time at which the reply to a body with this fingerprint says it was made."""
    return _BORN + int.from_bytes(mark[:4]) % _SPAN_S


def models(name: str = "") -> bytes:
    """Build the body of `/v1/models`, or of `/v1/models/NAME`. Raises `RequestError` for one that does not exist."""
    if name:
        require_model(name)
        return encode(_model(name))
    return encode({"object": "list", "data": [_model(name) for name in MODELS]})


def _model(name: str) -> dict[str, str | int]:
    return {"id": name, "object": "model", "created": _BORN, "owned_by": "rowmill"}


def error_body(message: str, *, kind: str, code: str | None, param: str | None = None) -> bytes:
    """Build an error in OpenAI's shape; `kind` is its "type"."""
    return encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def read(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    """Decode a request body. Raises `RequestError`."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(400, f"We could not parse the body of your request: {error}") from None


def require_model(model: str) -> None:
    """Refuse a model that does not exist."""
    if model.startswith(UNKNOWN_MODEL):
        message = f"The model `{model}` does not exist or you do not have access to it."
        raise RequestError(404, message, code="model_not_found", param="model")


def require_choices(n: int | None) -> int:
    """Return how many choices a request asks for. Refuses what is no such number."""
    if n is not None and not 1 <= n <= MOST_CHOICES:
        message = f"Expected a value from 1 to {MOST_CHOICES}, but got {n}."
        raise RequestError(400, message, code="invalid_value", param="n")
    return n or 1


def require_possible(model: str, cap: int | None, stream: bool | None, least_cap: int = 1) -> None:
    """Refuse a model that does not exist, a stream, or a cap on the reply's tokens below the least of the route."""
    require_model(model)
    if stream:
        raise RequestError(400, "The simulator does not stream.", code="unsupported_value", param="stream")
    if cap is not None and cap < least_cap:
        param = "max_tokens" if least_cap == 1 else "max_output_tokens"
        message = f"Expected a value of at least {least_cap}, but got {cap}."
        raise RequestError(400, message, code="integer_below_min_value", param=param)
