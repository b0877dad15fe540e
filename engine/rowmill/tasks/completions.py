"""Completions: `POST /completions`, of which the text of the first choice is the answer."""

from typing import Any

import msgspec

from rowmill.core.config import TaskConfig
from rowmill.core.errors import BadReply, InvalidOutput
from rowmill.core.wire import Answer
from rowmill.tasks.inputs import TextInput
from rowmill.tasks.replies import NULL, counted, decoded


class _TextChoice(msgspec.Struct, gc=False):
    text: msgspec.Raw
    finish_reason: msgspec.Raw = NULL


class _TextCompletion(msgspec.Struct, gc=False):
    choices: list[_TextChoice]
    model: msgspec.Raw = NULL
    usage: msgspec.Raw = NULL


class Completions(TextInput):
    """The API as tasks know it; see `api.Api`."""

    caps = ("max_tokens",)
    member = "prompt"

    @staticmethod
    def fixed(config: TaskConfig, *, whole_reply: bool) -> dict[str, Any]:  # noqa: ARG004 - see `api.Api`
        """Return the members that are the same in every request."""
        return dict(config.params)

    @staticmethod
    def parse(body: bytes) -> Answer:
        """Read the body of a 2xx reply. Raises `BadReply` where it is none."""
        completion = decoded(_decode, body, "completion")
        if not completion.choices:
            raise BadReply("a completion without choices")
        choice = completion.choices[0]
        text = bytes(choice.text)
        if text[:1] != b'"':
            raise BadReply("a completion whose text is none")
        usage = bytes(completion.usage)
        return Answer(text, bytes(choice.finish_reason), bytes(completion.model), usage, *counted(usage))

    @classmethod
    def unpack(cls, body: bytes, rows: int) -> list[Answer | InvalidOutput]:
        """Read the reply to the one row that a request of this API holds."""
        assert rows == 1
        return [cls.parse(body)]


_decode = msgspec.json.Decoder(_TextCompletion).decode
