"""Moderations: `POST /moderations`, of which the first result is the answer, an object.

Its members are flagged, categories, category_scores and what else the server tells.
"""

from typing import Any

import msgspec

from rowmill.core.config import TaskConfig
from rowmill.core.errors import BadReply, InvalidOutput
from rowmill.core.wire import Answer
from rowmill.tasks.inputs import TextInput
from rowmill.tasks.replies import NULL, counted, decoded, shared


class _ModerationReply(msgspec.Struct, gc=False):
    results: list[msgspec.Raw]
    model: msgspec.Raw = NULL
    usage: msgspec.Raw = NULL  # OpenAI tells none


class _ModerationResult(msgspec.Struct, gc=False):
    flagged: bool


class Moderations(TextInput):
    """The API as tasks know it; see `api.Api`."""

    @staticmethod
    def fixed(config: TaskConfig, *, whole_reply: bool) -> dict[str, Any]:  # noqa: ARG004 - see `api.Api`
        """Return the members that are the same in every request."""
        return dict(config.params)

    @staticmethod
    def parse(body: bytes) -> Answer:
        """Read the body of a 2xx reply to one input. Raises `BadReply` where it is none."""
        moderation = _read(body, 1)
        usage = bytes(moderation.usage)
        return Answer(bytes(moderation.results[0]), b"null", bytes(moderation.model), usage, *counted(usage))

    @staticmethod
    def unpack(body: bytes, rows: int) -> list[Answer | InvalidOutput]:
        """Read the body of a 2xx reply to several inputs. Raises `BadReply` where it is none.

        A row's part of the usage is not told: `usage` is null, so that no row's line depends on its neighbours.
        """
        moderation = _read(body, rows)
        prompt, completion = (shared(tokens, rows) for tokens in counted(bytes(moderation.usage))[:2])
        model = bytes(moderation.model)
        return [
            Answer(bytes(result), b"null", model, b"null", *tokens)
            for result, *tokens in zip(moderation.results, prompt, completion, strict=True)
        ]


def _read(body: bytes, rows: int) -> _ModerationReply:
    moderation = decoded(_decode, body, "moderation")
    if len(moderation.results) != rows:
        raise BadReply(f"a moderation of {len(moderation.results)} results for {rows} inputs")
    for result in moderation.results:
        decoded(_decode_result, bytes(result), "moderation")
    return moderation


_decode = msgspec.json.Decoder(_ModerationReply).decode
_decode_result = msgspec.json.Decoder(_ModerationResult).decode
