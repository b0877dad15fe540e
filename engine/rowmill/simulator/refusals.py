"""What of a request a provider does not take, as servers and models of the field do not, and what it says to it."""

from collections.abc import Callable
from typing import Any

import msgspec

from rowmill.simulator.replies import RequestError

_NOT_SUPPORTED = "Invalid parameter: 'response_format' of type '{}' is not supported with this model."


class _Kind(msgspec.Struct, gc=False):
    type: str = "text"


class _FormatOfText(msgspec.Struct, gc=False):
    format: _Kind | None = None


class _AskedFor(msgspec.Struct, gc=False):
    """What may be refused of a request body."""

    stream: bool | None = None
    stream_options: Any = None
    response_format: _Kind | None = None  # of chat completions
    text: _FormatOfText | None = None  # of responses
    tools: list[Any] | None = None

    @property
    def kind(self) -> str:
        """How a reply in JSON is asked for, if one is."""
        found = self.response_format or (self.text and self.text.format)
        return found.type if found else "text"


_REFUSALS: dict[str, tuple[Callable[[_AskedFor], bool], str]] = {
    "whole": (lambda asked: not asked.stream, "Stream must be set to true"),
    "stream_options": (
        lambda asked: asked.stream_options is not None,
        "stream_options: Extra inputs are not permitted",
    ),
    "json_schema": (lambda asked: asked.kind == "json_schema", _NOT_SUPPORTED.format("json_schema")),
    "json_object": (lambda asked: asked.kind == "json_object", _NOT_SUPPORTED.format("json_object")),
    "tools": (lambda asked: bool(asked.tools), "This model does not support tools."),
}
NAMES = tuple(_REFUSALS)
_decoder = msgspec.json.Decoder(_AskedFor)


def refuse(body: bytes, names: tuple[str, ...]) -> None:
    """Raise `RequestError` for a request with any of these."""
    try:
        asked = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return  # who answers it says what is wrong with it
    for name in names:
        is_asked, words = _REFUSALS[name]
        if is_asked(asked):
            raise RequestError(400, words, code="unsupported_value")
