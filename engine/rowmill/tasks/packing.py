"""Several rows in one chat request (`task.rows_per_request`), around the task that asks for one row.

A pack's user message is a JSON list, `[{"id": "1", "prompt": "..."}, ...]`; its reply is
`{"answers": [{"id": "1", "answer": ...}, ...]}`. The ids are the places in the pack, from 1. The schema of the reply is
the same for packs of every length: providers prepare a new schema before they answer to it, which takes seconds.

Which answer is whose is known only by its id, so a row gets an answer only where exactly one bears its id, and where
that is a text, or fits the schema of a row. Every other row is an `InvalidOutput`, and what bears no row's id is no
row's. A reply that is no JSON, or was cut off, is one of all of its rows: its last answer may be cut as well, and the
model may have been led astray long before.

What a caller must know:
- A row's request is the ordinary request of that row, and a pack of one row is that request, so that splitting a pack
  ends in the plain way of asking.
- `max_tokens` and its like are meant for one row. A pack may have so many for each of its rows, and a few for the form.
- Parameters that say something about the text of a reply (`stop`, `tools`, `logprobs`, ...) mean nothing for a row of
  a pack and are refused.
"""

from collections.abc import Callable, Sequence

import msgspec

from rowmill.core.config import TaskConfig
from rowmill.core.config.sections import ModelSchema
from rowmill.core.errors import ConfigError, InvalidOutput
from rowmill.core.wire import Answer, Request
from rowmill.tasks import Task
from rowmill.tasks.api import CHARACTERS_A_TOKEN
from rowmill.tasks.found_json import NoJson, json_in, one_line
from rowmill.tasks.pack_schema import pack_schema
from rowmill.tasks.replies import shared
from rowmill.tasks.schema import Document, OutputSchema, asked, response_format
from rowmill.tasks.structured import StructuredTask, with_reason, with_text
from rowmill.tasks.wrapper import TaskWrapper

_FORM_TOKENS = 16  # of `{"id": "17", "answer": ...},` around an answer, and of `{"answers": [...]}` around them all
_CAPS = ("max_completion_tokens", "max_tokens")
_REFUSED = ("functions", "logprobs", "modalities", "response_format", "stop", "tools", "top_logprobs")

_INSTRUCTIONS = (
    "The message of the user is a JSON list of tasks, each with an id and a prompt, and none to do with another. "
    "Answer each prompt just as you would if it were the only one. Reply with nothing but JSON of the form "
    '{"answers": [{"id": "...", "answer": ...}]}: one entry for each id, with that id as it was given, and '
)
_TEXT = "as answer the text of your reply to that prompt."
_OBJECT = "as answer the JSON object that the schema asks for."
_NOT_ASKED = "the pack's reply has no answer with this row's id"


class _RowMessage(msgspec.Struct, gc=False):
    role: str
    content: str


class _RowBody(msgspec.Struct, gc=False):
    messages: list[_RowMessage]


class _PackAnswers(msgspec.Struct, gc=False):
    answers: list[msgspec.Raw]


class _PackAnswer(msgspec.Struct, gc=False):
    id: str | int  # a model may take the quotes for decoration
    answer: msgspec.Raw


class PackedTask(TaskWrapper):
    """Asks for several rows at once, and for one in the way of the task that it is made around.

    shared_tokens: those that a row saves by sharing a request with others: system prompt and schema, without the form.
    reply_tokens: of one row.
    """

    def __init__(self, chat: Task, config: TaskConfig) -> None:
        """Compile the task. Raises `ConfigError` where rows of this configuration cannot be packed.

        chat: asks for one row, by the same configuration (`with_format` of it where it has a schema).
        """
        rows = config.rows_per_request
        assert isinstance(rows, int)
        _check(config)
        super().__init__(chat)
        self._chat = chat
        self._single: Task = chat
        self._schema: OutputSchema | None = None
        document: Document | None = None  # as it is asked for
        if isinstance(config.schema, dict | ModelSchema):
            single = StructuredTask(chat, config.schema, strict=config.strict_json)
            self._single, self._schema, document = single, single.schema, asked(config.schema)
        self._strict = config.strict_json
        self.parse = self._single.parse
        self.rows_per_request = rows
        self._instructions = _INSTRUCTIONS + (_OBJECT if self._schema else _TEXT)
        self._caps = {key: cap for key in _CAPS if type(cap := config.params.get(key)) is int}
        self._fixed = {
            **{key: value for key, value in config.params.items() if key not in self._caps},
            "response_format": response_format(pack_schema(document)),
        }
        self._before = self._beginning(config.model)
        shared = len(config.system or "") + (0 if document is None else len(_encode(document)))
        self.shared_tokens = max(0, shared // CHARACTERS_A_TOKEN - _FORM_TOKENS)

    def pack(self, requests: Sequence[Request]) -> Request:
        """Make one request of several rows; of one, its own."""
        if len(requests) == 1:
            return requests[0]
        questions = [_question(request.body) for request in requests]
        system = questions[0][0]
        alike = all(each == system for each, _ in questions)
        prompts = [
            {"id": str(place), "prompt": prompt if alike else f"{own}\n\n{prompt}".strip()}
            for place, (own, prompt) in enumerate(questions, 1)
        ]
        instructions = f"{system}\n\n{self._instructions}" if alike and system else self._instructions
        messages = [
            {"role": "system", "content": instructions},
            {"role": "user", "content": _encode(prompts).decode()},
        ]
        caps = {key: len(requests) * (cap + _FORM_TOKENS) + _FORM_TOKENS for key, cap in self._caps.items()}
        body = b"%b,%b" % (self._before, _encode({**caps, "messages": messages})[1:])
        return Request(body, b"null", len(body) // CHARACTERS_A_TOKEN)

    def unpack(self, body: bytes, rows: int) -> list[Answer | InvalidOutput]:
        """Read the body of a 2xx reply to a pack of so many rows: for each row its answer or what is wrong with it.

        The pack's tokens are split among the rows. Raises `BadReply` where the body is no reply, `Declined` where the
        model declined the pack.
        """
        if rows == 1:
            try:
                # As a row has it that shared its request: whether it did depends on crashes.
                return [msgspec.structs.replace(self.parse(body), usage=b"null")]
            except InvalidOutput as invalid:
                return [invalid]
        whole = self._chat.parse(body)
        shares = _shares(with_text(whole), rows)
        try:
            answers = _answers(whole.output, strict=self._strict)
        except NoJson as error:
            problem = with_reason(str(error), whole)
            # One row keeps the reply: where it is stored, it is stored once.
            return [
                InvalidOutput(problem, share if place == 0 else msgspec.structs.replace(share, output=b'""'))
                for place, share in enumerate(shares)
            ]
        return [self._read(answers.get(str(place), []), share) for place, share in enumerate(shares, 1)]

    def _read(self, answers: list[bytes], share: Answer) -> Answer | InvalidOutput:
        """Read what was answered with a row's id. `share` is what the row has of the reply."""
        if not answers:
            return InvalidOutput(with_reason(_NOT_ASKED, share), msgspec.structs.replace(share, output=b'""'))
        answer = answers[0]
        if any(other != answer for other in answers):
            texts = _encode("\n".join(each.decode() for each in answers))
            return InvalidOutput(
                "the pack's reply has different answers with this row's id",
                msgspec.structs.replace(share, output=texts),
            )
        try:
            value = _decode(answer)
        except (msgspec.DecodeError, RecursionError) as error:  # a number or an escape that is none
            problem: str | None = f"the answer is no JSON: {error}"
        else:
            if self._schema is not None:
                problem = self._schema.problem_in(answer, value)
            else:
                problem = None if isinstance(value, str) else "the answer is no text"
        if problem is not None:
            return InvalidOutput(problem, msgspec.structs.replace(share, output=_encode(answer.decode())))
        return msgspec.structs.replace(share, output=one_line(answer.decode()))

    def again(self, request: Request, invalid: InvalidOutput) -> Request:
        """Return the request of this row alone that shows the model its reply and what was wrong with it.

        Without a schema there is nothing that a text by itself could be wrong in: it is the row's own request.
        """
        return request if self._schema is None else self._single.again(request, invalid)

    def asking(self, model: str) -> Callable[[bytes], bytes]:
        """Return what turns the body of a request, of one row or of several, into one that asks another model."""
        single, before, mine = self._chat.asking(model), self._beginning(model), self._before
        # Only a pack's body begins so: with the schema of packs.
        return lambda body: before + body[len(mine) :] if body.startswith(mine) else single(body)

    def _beginning(self, model: str | None) -> bytes:
        return _encode({"model": model, **self._fixed})[:-1]


def _check(config: TaskConfig) -> None:
    key = "task.rows_per_request"
    if config.api != "chat.completions":
        raise ConfigError(f'{key}: above 1 needs task.api "chat.completions", not "{config.api}"')
    for name in ("images", "messages", "per_row"):
        if getattr(config, name):
            raise ConfigError(f"{key}: rows with task.{name} cannot share a request; set it to 1")
    for name in _REFUSED:
        if name in config.params:
            raise ConfigError(f"{key}: task.params.{name} cannot be kept for rows that share a request; set it to 1")
    if config.params.get("n", 1) != 1:
        raise ConfigError(f"{key}: task.params.n cannot be kept for rows that share a request; set it to 1")


def _question(body: bytes) -> tuple[str, str]:
    """Return the system prompt, "" for none, and the prompt of a row's request, its first or one of `again`."""
    messages = _decode_body(body).messages
    return (messages[0].content, messages[1].content) if messages[0].role == "system" else ("", messages[0].content)


def _answers(content: bytes, *, strict: bool) -> dict[str, list[bytes]]:
    """Return the answers of a pack's reply by id. Raises `NoJson`."""
    text, _ = json_in(content, strict=strict)
    try:
        entries = _decode_answers(text).answers
    except msgspec.DecodeError as error:
        raise NoJson(f"the pack's reply is not of the form asked for: {error}") from None
    answers: dict[str, list[bytes]] = {}
    for raw in entries:
        try:
            entry = _decode_entry(raw)
        except msgspec.DecodeError:
            continue  # nobody's
        answers.setdefault(str(entry.id), []).append(bytes(entry.answer))
    return answers


def _shares(whole: Answer, rows: int) -> list[Answer]:
    """Return for each row the reply with its share of the tokens, whose sum is right."""
    tokens = (whole.prompt_tokens, whole.completion_tokens, whole.cached_tokens)
    return [
        Answer(whole.output, whole.finish_reason, whole.model, b"null", *parts)
        for parts in zip(*(shared(each, rows) for each in tokens), strict=True)
    ]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_decode_body = msgspec.json.Decoder(_RowBody).decode
_decode_answers = msgspec.json.Decoder(_PackAnswers).decode
_decode_entry = msgspec.json.Decoder(_PackAnswer).decode
