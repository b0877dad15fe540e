"""The chat completions task: a line of JSON -> `POST /chat/completions` -> the text of the first choice.

Both directions decode with types made for the job, so that the columns and members nobody asked for cost nothing.
"""

import re
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Annotated, Any

import msgspec

from engine.config import TaskConfig
from engine.errors import BadReply, ConfigError, InputError, InvalidRow, Refused
from engine.records import Answer, Request
from engine.tasks.template import Template

_UNDECODABLE = re.compile(r'["\\\x00-\x1f]')  # the decoder matches names as they stand in the file, unescaped
_CHARACTERS_A_TOKEN = 4  # OpenAI's own rule of thumb; the reply's usage corrects the debit
_Scalar = str | int | float | bool | None  # what an id may be
_Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]  # a sum of other ones would be no figure


_NULL = msgspec.Raw(b"null")


class _Message(msgspec.Struct, gc=False):
    content: msgspec.Raw = _NULL
    refusal: str | None = None
    tool_calls: msgspec.Raw = _NULL


class _Choice(msgspec.Struct, gc=False):
    message: _Message
    finish_reason: msgspec.Raw = _NULL


class _Completion(msgspec.Struct, gc=False):
    choices: list[_Choice]
    model: msgspec.Raw = _NULL
    usage: msgspec.Raw = _NULL


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0


class ChatTask:
    """Builds the requests and reads the replies of one chat task.

    columns: those of a row that the task looks at.
    reply_tokens: the most that a reply may have; 0 where the task does not say.
    """

    def __init__(self, config: TaskConfig, id_column: str | None) -> None:
        """Compile the task. Raises `ConfigError` where its template is none."""
        template = Template(config.prompt, "task.prompt")
        for key, names in (("task.prompt", template.columns), ("input.id", [id_column or ""])):
            for name in names:
                if _UNDECODABLE.search(name):
                    raise ConfigError(
                        f"{key}: column {name!r}: quotes, backslashes and control characters cannot be used"
                    )
        columns = list(template.columns)
        if id_column is not None and id_column not in columns:
            columns.append(id_column)
        self.columns = columns
        self._template = template
        self._id_column = id_column
        # Two decoders: a row whose columns are all there and all text, as nearly all are, needs no further look.
        texts = [str] * len(template.columns) + [_Scalar] * (len(columns) - len(template.columns))
        self._decode_texts = _row_decoder(columns, texts)
        self._decode_any = _row_decoder(columns, None)
        self._pattern = template.pattern
        # Without columns the prompt is the same for every row; an empty tuple then fills in nothing.
        self._prompt_values = attrgetter(*(f"c{use}" for use in template.uses)) if template.uses else _nothing
        self._id_value = attrgetter(f"c{columns.index(id_column)}") if id_column is not None else None

        # The prompt is the one part that differs, and stands last: all before and behind it is encoded once.
        self._config = config
        self._before, self._after = self._beginning(config.model), b"}]}"
        self.reply_tokens = next(
            (value for key in ("max_completion_tokens", "max_tokens") if type(value := config.params.get(key)) is int),
            0,
        )

    def build(self, line: bytes) -> Request:
        """Turn one input line into a request. Raises `InvalidRow` with the reason."""
        try:
            row = self._decode_texts(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self._build_of_any(line)
        id_ = b"null" if self._id_value is None else _encode(self._id_value(row))
        return self._request(self._pattern % self._prompt_values(row), id_)

    def _build_of_any(self, line: bytes) -> Request:
        values = self._read(line)
        return self._request(self._template.render(values), self._id_of(values))

    def _request(self, prompt: str, id_: bytes) -> Request:
        if not prompt or prompt.isspace():
            raise InvalidRow("the prompt is empty")
        body = b"%b%b%b" % (self._before, _encode(prompt), self._after)
        return Request(body, id_, len(body) // _CHARACTERS_A_TOKEN)

    def asking(self, model: str) -> Callable[[bytes], bytes]:
        """Return what turns the body of a built request into one that asks another model the same."""
        before, length = self._beginning(model), len(self._before)
        return lambda body: before + body[length:]

    def _beginning(self, model: str) -> bytes:
        config = self._config
        messages = [] if config.system is None else [{"role": "system", "content": config.system}]
        body = {**config.params, "model": model, "messages": [*messages, {"role": "user", "content": None}]}
        return msgspec.json.encode(body)[: -len(b"null}]}")]

    def id_of(self, line: bytes) -> bytes:
        """Return a row's id as JSON text, null where it cannot be read: for rows that fail before they are built."""
        if self._id_value is None:
            return b"null"
        try:
            value = self._id_value(self._decode_any(line))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return b"null"
        return _encode(value) if isinstance(value, _Scalar) else b"null"

    @staticmethod
    def input_of(line: bytes) -> bytes:
        """Return the line as JSON that can stand in an output line; null where it is no JSON."""
        try:
            msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return b"null"
        return line.strip()

    @staticmethod
    def parse(body: bytes) -> Answer:
        """Read the body of a 2xx reply. Raises `BadReply` where it is none, `Refused` where the model declined."""
        try:
            if not body.isascii():
                body.decode()  # raw members are passed on unread; what is no UTF-8 must not reach the output
            completion = _decode_completion(body)
            choice = completion.choices[0]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadReply(f"no chat completion: {error}" if body else "the reply is empty") from None
        except IndexError:
            raise BadReply("a chat completion without choices") from None
        output = bytes(choice.message.content)
        if output[0] != _QUOTE:
            output = _unusual_output(choice, output)
        usage = bytes(completion.usage)
        try:
            tokens = _decode_usage(usage)
        except msgspec.DecodeError:
            tokens = _NO_USAGE  # null, or a shape of its own: passed on, not counted
        return Answer(
            output,
            bytes(choice.finish_reason),
            bytes(completion.model),
            usage,
            tokens.prompt_tokens,
            tokens.completion_tokens,
        )

    def check(self, lines: Iterable[bytes], source: str) -> None:
        """Refuse a configuration whose columns none of these first lines has. Raises `InputError`."""
        rows = []
        for line in lines:
            try:
                row = msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            if isinstance(row, dict):
                rows.append(row)
        if not rows:
            return
        for column in self.columns:
            if not any(column in row for row in rows):
                key = (
                    "input.id" if column == self._id_column and column not in self._template.columns else "task.prompt"
                )
                raise InputError(
                    f"{source}: no column {column!r}, which {key} names; the columns are {', '.join(map(str, rows[0]))}"
                )

    def _read(self, line: bytes) -> dict[str, Any]:
        """Return the values of the task's columns. Raises `InvalidRow` with what is wrong with the line."""
        try:
            row = self._decode_any(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if not line.strip():
                raise InvalidRow("the line is blank") from None
            raise InvalidRow(f"the line is no JSON object: {error}") from None
        values = dict(zip(self.columns, msgspec.structs.astuple(row), strict=True))
        for column, value in values.items():
            if value is msgspec.UNSET:
                raise InvalidRow(f"the row has no column {column!r}")
        return values

    def _id_of(self, values: dict[str, Any]) -> bytes:
        if self._id_column is None:
            return b"null"
        value = values[self._id_column]
        if not isinstance(value, _Scalar):
            raise InvalidRow(f"the id in column {self._id_column!r} is neither text nor a number")
        return _encode(value)


def _row_decoder(columns: list[str], kinds: list[Any] | None) -> Callable[[bytes], msgspec.Struct]:
    """Return a decoder of rows to structs with one member for each column, c0, c1, ...; others are passed over.

    With `kinds` each column must be there and be of its type; without, a missing one is UNSET.
    """
    names = [f"c{number}" for number in range(len(columns))]
    fields = [(name, Any, msgspec.UNSET) for name in names] if kinds is None else list(zip(names, kinds, strict=True))
    row = msgspec.defstruct("Row", fields, rename=dict(zip(names, columns, strict=True)), gc=False)
    return msgspec.json.Decoder(row).decode


def _nothing(_row: msgspec.Struct) -> tuple[()]:
    return ()


def _unusual_output(choice: _Choice, content: bytes) -> bytes:
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
        raise Refused(message.refusal)
    if bytes(choice.finish_reason) not in (b'"length"', b'"content_filter"'):
        raise BadReply("a chat completion without content")
    return b'""'  # cut before the first word: a result, and finish_reason says so


_encode = msgspec.json.Encoder().encode
_QUOTE = ord('"')
_NO_USAGE = _Usage()
_decode_completion = msgspec.json.Decoder(_Completion).decode
_decode_usage = msgspec.json.Decoder(_Usage).decode
