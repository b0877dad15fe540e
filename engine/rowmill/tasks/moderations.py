"""Moderations: `POST /moderations`, of which the first result is the answer, an object.

Its members are flagged, categories, category_scores and what else the server tells.
"""

import msgspec

from rowmill.core.errors import BadReply, InvalidOutput
from rowmill.core.wire import Answer
from rowmill.tasks.api import Api
from rowmill.tasks.replies import Outside, alike, believed, counted, decoded


class _ModerationReply(Outside, gc=False, kw_only=True):  # OpenAI tells no usage
    results: list[msgspec.Raw]


class _ModerationResult(msgspec.Struct, gc=False):
    flagged: bool


class Moderations(Api):
    """The API as tasks know it."""

    @staticmethod
    def parse(body: bytes) -> Answer:
        """Read the body of a 2xx reply to one input. Raises `BadReply` where it is none."""
        moderation = _read(body, 1)
        usage = bytes(moderation.usage)
        return Answer(bytes(moderation.results[0]), b"null", bytes(moderation.model), usage, *counted(usage))

    @staticmethod
    def unpack(body: bytes, rows: int) -> list[Answer | InvalidOutput]:
        """Read the body of a 2xx reply to several inputs. Raises `BadReply` where it is none."""
        moderation = _read(body, rows)
        return alike(map(bytes, moderation.results), rows, moderation)


def _read(body: bytes, rows: int) -> _ModerationReply:
    moderation = decoded(_decode, body, "moderation")
    believed(moderation)
    if len(moderation.results) != rows:
        raise BadReply(f"a moderation of {len(moderation.results)} results for {rows} inputs")
    for result in moderation.results:
        decoded(_decode_result, bytes(result), "moderation")
    return moderation


_decode = msgspec.json.Decoder(_ModerationReply).decode
_decode_result = msgspec.json.Decoder(_ModerationResult).decode
