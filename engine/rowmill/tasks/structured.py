"""Tasks whose replies must fit a JSON Schema: around a chat or a responses task, which talks to the API.

A reply is taken where its content is JSON that the validator passes, whatever `finish_reason` says. What models write
around it is passed over, unless `task.strict_json` says otherwise (see `found_json`): nothing is in doubt then, and
asking again would be paid for. Everything else is an `InvalidOutput`.
"""

from collections.abc import Sequence
from typing import Literal, NoReturn

import msgspec

from rowmill.core.config import TaskConfig
from rowmill.core.config.sections import ModelSchema
from rowmill.core.errors import ConfigError, Declined, InvalidOutput
from rowmill.core.finish_reasons import CUT
from rowmill.core.wire import Answer, Request
from rowmill.tasks import Task
from rowmill.tasks.api import CHARACTERS_A_TOKEN
from rowmill.tasks.contents import choices_in, filtered, listed, reason_word, text_of
from rowmill.tasks.found_json import NoJson, json_in
from rowmill.tasks.schema import VALUE, Document, asked, opened, response_format, text_format
from rowmill.tasks.wrapper import TaskWrapper

_SHOWN_CHARACTERS = 8000  # of a wrong reply that the model sees again: it may have run on up to its limit
_QUOTE = ord('"')
_ASSISTANT = b'{"role":"assistant","content":'
_CORRECTION = b'{"role":"user","content":"This reply cannot be used: '
_REQUEST = "Reply again, with nothing but the JSON that was asked for: no other text, no code fence."


class _Conversation(msgspec.Struct, gc=False):
    messages: msgspec.Raw = msgspec.Raw(b"[]")
    input: msgspec.Raw = msgspec.Raw(b"[]")


class StructuredTask(TaskWrapper):
    """Builds the requests of another task, and holds the replies' content against a schema.

    The output of an answer is the JSON that the model wrote, on one line; of several choices, each of which must fit,
    it is the list of theirs.
    """

    rows_per_request = 1

    def __init__(
        self,
        inner: Task,
        schema: Document | ModelSchema,
        member: Literal["messages", "input"] = "messages",
        *,
        strict: bool = False,
    ) -> None:
        """Build the validator. Raises `ConfigError` where the schema is none.

        inner: made of the configuration that `with_format` returns; its outputs are contents, never whole replies.
        member: of its API's bodies, the last one, that holds the conversation. strict: take nothing but JSON.
        """
        super().__init__(inner)
        self.asking = inner.asking
        self.schema = opened(schema)
        self._parse = inner.parse
        self._member = member
        self._strict = strict

    @staticmethod
    def pack(requests: Sequence[Request]) -> Request:
        """Return the request of the one row."""
        (request,) = requests
        return request

    def unpack(self, body: bytes, rows: int) -> list[Answer | InvalidOutput]:
        """Read a reply to one row."""
        assert rows == 1
        try:
            return [self.parse(body)]
        except InvalidOutput as invalid:
            return [invalid]

    def parse(self, body: bytes) -> Answer:
        """Read the body of a 2xx reply.

        Raises `BadReply` where it is none, `Declined` where the model declined or a content filter cut it off,
        `InvalidOutput` where the content does not fit the schema.
        """
        answer = self._parse(body)
        if (choices := choices_in(answer.output)) is None:
            return msgspec.structs.replace(answer, output=self._taken(answer))
        each = [self._taken(msgspec.structs.replace(answer, output=choice)) for choice in choices]
        return msgspec.structs.replace(answer, output=listed(each))

    def _taken(self, answer: Answer) -> bytes:
        """Return the JSON in an answer with one content. Raises as `parse` does."""
        try:
            text, value = json_in(answer.output, strict=self._strict, fits=self.fits)
        except NoJson as error:
            self._invalid(answer, str(error), no_json=True)
        problem = self.schema.problem_in(text, value)
        if problem is not None and self.schema.wrapped and not self._strict:
            # A server that knows no schemas gives the list itself, without the object around it.
            whole = b'{"%s":%s}' % (VALUE.encode(), text)
            if self.schema.problem_in(whole, {VALUE: value}) is None:
                return whole
        if problem is not None:
            self._invalid(answer, problem)
        return text

    def fits(self, value: object) -> bool:
        """Whether a value fits the schema."""
        return self.schema.problem(value) is None

    @staticmethod
    def _invalid(answer: Answer, problem: str, *, no_json: bool = False) -> NoReturn:
        if filtered(answer.finish_reason):
            raise Declined("the content filter cut off the reply") from None
        shown = with_text(answer)
        prose = no_json and reason_word(answer.finish_reason) != CUT and bool(_decode_text(shown.output).strip())
        raise InvalidOutput(with_reason(problem, answer), shown, prose=prose) from None

    def again(self, request: Request, invalid: InvalidOutput) -> Request:
        """Return the request that shows the model its reply and what was wrong with it.

        Of several wrong replies only the latest is shown, so the first request and one of an earlier `again` give the
        same. Where there was no text to show, it is the first request once more, whose body may be the same as before.
        """
        conversation = bytes(getattr(_decode_conversation(request.body), self._member))
        before = request.body.removesuffix(conversation + b"}")
        assert before != request.body, "the conversation is the last member of a body"
        messages = _messages(conversation)
        if len(messages) > 2 and messages[-1].startswith(_CORRECTION) and messages[-2].startswith(_ASSISTANT):  # noqa: PLR2004 - the two of an earlier try
            del messages[-2:]
        reply = _decode_text(invalid.answer.output)
        if reply.strip():  # a message without text is refused by some servers
            if len(reply) > _SHOWN_CHARACTERS:
                reply = reply[:_SHOWN_CHARACTERS] + " [...]"
            messages.append(b"%b%b}" % (_ASSISTANT, _encode(reply)))
            messages.append(b"%b%b}" % (_CORRECTION, _encode(f"{invalid}. {_REQUEST}")[1:]))
        body = b"%b[%b]}" % (before, b",".join(messages))
        return Request(body, request.id, len(body) // CHARACTERS_A_TOKEN)


def with_format(config: TaskConfig) -> TaskConfig:
    """Return the configuration of the task that a `StructuredTask` is made around: its parameters ask for the schema.

    Raises `ConfigError` where the parameters have a format of their own, or the API has none.
    """
    assert isinstance(config.schema, dict | ModelSchema), "made of a configuration whose schema is resolved"
    document = asked(config.schema)
    params = dict(config.params)
    if config.api == "chat.completions":
        if "response_format" in params:
            raise ConfigError("task.params.response_format: is made from task.schema; remove it here")
        params["response_format"] = response_format(document)
    elif config.api == "responses":
        text = params.get("text", {})
        if not isinstance(text, dict):
            raise ConfigError("task.params.text: must be a table")
        if "format" in text:
            raise ConfigError("task.params.text.format: is made from task.schema; remove it here")
        params["text"] = {**text, "format": text_format(document)}
    else:
        raise ConfigError(f'task.schema: needs task.api "chat.completions" or "responses", not "{config.api}"')
    return msgspec.structs.replace(config, params=params)


def with_reason(problem: str, answer: Answer) -> str:
    """Return the problem with the reason behind it, where the reply was cut off."""
    if reason_word(answer.finish_reason) == CUT:
        return f"the reply was cut off at its token limit (finish_reason {answer.finish_reason.decode()}): {problem}"
    return problem


def with_text(answer: Answer) -> Answer:
    """Return the answer with an output that is a JSON string, whatever the content was."""
    output = text_of(answer.output)
    if output[0] != _QUOTE:
        output = _encode(output.decode())
    return answer if output is answer.output else msgspec.structs.replace(answer, output=output)


def _messages(conversation: bytes) -> list[bytes]:
    if conversation[0] == _QUOTE:  # the responses API takes a text in the place of a list with one message
        return [b'{"role":"user","content":%b}' % conversation]
    return [bytes(message) for message in msgspec.json.decode(conversation, type=list[msgspec.Raw])]


_encode = msgspec.json.Encoder().encode
_decode_conversation = msgspec.json.Decoder(_Conversation).decode
_decode_text = msgspec.json.Decoder(str).decode
