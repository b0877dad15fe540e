"""Chat completions: `POST /chat/completions`, of which the text of the first choice is the answer."""

from typing import Any

import msgspec

from rowmill.core.config import TaskConfig
from rowmill.core.errors import BadReply, Declined
from rowmill.core.wire import Answer
from rowmill.tasks.api import Api
from rowmill.tasks.conversation import Parts, with_system
from rowmill.tasks.replies import NULL, Count, Details, Outside, counted
from rowmill.tasks.rows import UNREADABLE


class _ReplyMessage(msgspec.Struct, gc=False):
    content: msgspec.Raw = NULL
    refusal: str | None = None
    tool_calls: msgspec.Raw = NULL


class _ChatChoice(msgspec.Struct, gc=False):
    message: _ReplyMessage
    finish_reason: msgspec.Raw = NULL


class _ChatCompletion(Outside, gc=False, kw_only=True):
    choices: list[_ChatChoice]


class _ChatUsage(msgspec.Struct, gc=False):
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    prompt_tokens_details: Details | None = None


def parse(body: bytes) -> Answer:
    """Read the body of a 2xx reply. Raises `BadReply` where it is none, `Declined` where the model declined."""
    try:
        if not body.isascii():
            body.decode()  # raw members are passed on unread; what is no UTF-8 must not reach the output
        completion = _decode_completion(body)
        choice = completion.choices[0]
    except UNREADABLE as error:
        raise BadReply(f"no chat completion: {error}" if body else "the reply is empty") from None
    except IndexError:
        raise BadReply("a chat completion without choices") from None
    output = bytes(choice.message.content)
    if output[0] != _QUOTE:
        output = _unusual_output(choice, output)
    usage = bytes(completion.usage)
    try:
        tokens = _decode_usage(usage)
    except msgspec.DecodeError:  # null, or a shape of its own
        return Answer(output, bytes(choice.finish_reason), bytes(completion.model), usage, *counted(usage))
    prompt_tokens = tokens.prompt_tokens
    details = tokens.prompt_tokens_details
    cached = details.cached_tokens if details is not None else 0
    return Answer(
        output,
        bytes(choice.finish_reason),
        bytes(completion.model),
        usage,
        prompt_tokens,
        tokens.completion_tokens,
        min(cached, prompt_tokens) if cached else 0,
    )


def _unusual_output(choice: _ChatChoice, content: bytes) -> bytes:
    """Return what stands for the text where the content is no string."""
    if content != b"null":
        if content[:1] in (b"[", b"{"):
            return content  # parts, as some servers answer
        raise BadReply("a chat completion whose content is no text")
    message = choice.message
    calls = bytes(message.tool_calls)
    if calls not in (b"null", b"[]"):
        return calls
    if message.refusal:
        raise Declined(message.refusal)
    if bytes(choice.finish_reason) not in (b'"length"', b'"content_filter"'):
        raise BadReply("a chat completion without content")
    return b'""'  # cut before the first word: a result, and finish_reason says so


class Chat(Api):
    """The API as tasks know it. The rows of a request are told apart by `packing`."""

    caps = ("max_completion_tokens", "max_tokens")
    member = "messages"
    parts = Parts(
        text=lambda text: {"type": "text", "text": text},
        image=lambda url: {"type": "image_url", "image_url": {"url": url}},
    )
    parse = staticmethod(parse)

    def plain(self, config: TaskConfig) -> tuple[str, Any]:
        """Return the messages with null in the prompt's place."""
        system = [] if config.system is None else [{"role": "system", "content": config.system}]
        return self.member, [*system, {"role": "user", "content": None}]

    def content(self, system: str | None, question: str | list[dict[str, Any]]) -> dict[str, Any]:
        """Return the messages of one row."""
        return {self.member: with_system(system, question)}


_QUOTE = ord('"')
_decode_completion = msgspec.json.Decoder(_ChatCompletion).decode
_decode_usage = msgspec.json.Decoder(_ChatUsage).decode
