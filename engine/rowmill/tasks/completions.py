"""Completions: `POST /completions`, of which the text of the choice is the answer, or those of several."""

import msgspec

from rowmill.core.errors import BadReply, EmptyReply
from rowmill.core.wire import Answer
from rowmill.tasks import chat
from rowmill.tasks.api import Api
from rowmill.tasks.contents import decoded_object, filtered, listed
from rowmill.tasks.replies import ERROR_BESIDE, NULL, Outside, believed, counted, decoded, is_error


class _TextChoice(msgspec.Struct, gc=False):
    text: msgspec.Raw = NULL
    finish_reason: msgspec.Raw = NULL
    error: msgspec.Raw = NULL


class _TextCompletion(Outside, gc=False, kw_only=True):
    choices: list[_TextChoice]


class Completions(Api):
    """The API as tasks know it."""

    caps = ("max_tokens",)
    member = "prompt"

    @staticmethod
    def parse(body: bytes) -> Answer:
        """Read the body of a 2xx reply. Raises `BadReply` where it is none."""
        completion = decoded(_decode, body, "completion")
        if not completion.choices:
            kind = EmptyReply if chat.is_whole(decoded_object(body)) else BadReply
            raise kind("a completion without choices")
        choice = completion.choices[0]
        believed(completion)
        if any(is_error(each.error) for each in completion.choices):
            raise BadReply(ERROR_BESIDE)
        text, reason = bytes(choice.text), bytes(choice.finish_reason)
        if text == b"null":
            if b'"message"' in body or b'"delta"' in body:
                return chat.parse(body)  # a server that answers as a chat, wherever it was asked
            if not filtered(reason):
                raise EmptyReply("a completion whose text is none")
            text, reason = b'""', b'"content_filter"'  # held back: a result that says so
        if len(completion.choices) > 1:
            text = listed([bytes(each.text) for each in completion.choices])
        usage = bytes(completion.usage)
        return Answer(text, reason, bytes(completion.model), usage, *counted(usage))


_decode = msgspec.json.Decoder(_TextCompletion).decode
