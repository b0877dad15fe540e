"""The chat completions task: a line of JSON -> `POST /chat/completions` -> the text of the first choice.

Both directions decode with types made for the job, so that the columns and members nobody asked for cost nothing.
"""

from collections.abc import Iterable
from operator import attrgetter
from typing import Any

import msgspec

from engine.config import TaskConfig
from engine.errors import BadReply, InputError, InvalidRow, Refused
from engine.records import Answer, Request
from engine.tasks.template import Template

_CHARACTERS_A_TOKEN = 4  # OpenAI's own rule of thumb; the reply's usage corrects the debit
_SCALARS = (str, int, float, bool, type(None))


class _Message(msgspec.Struct, gc=False):
    content: Any = None
    refusal: str | None = None
    tool_calls: Any = None


class _Choice(msgspec.Struct, gc=False):
    message: _Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct, gc=False):
    choices: list[_Choice]
    model: str | None = None
    usage: dict[str, Any] | None = None


class ChatTask:
    """Builds the requests and reads the replies of one chat task."""

    def __init__(self, config: TaskConfig, id_column: str | None) -> None:
        """Compile the task. Raises `ConfigError` where its template is none."""
        self._template = Template(config.prompt, "task.prompt")
        self._id_column = id_column
        columns = list(self._template.columns)
        if id_column is not None and id_column not in columns:
            columns.append(id_column)
        self.columns = columns
        row = msgspec.defstruct(
            "Row",
            [(f"c{number}", Any, msgspec.UNSET) for number in range(len(columns))],
            rename={f"c{number}": column for number, column in enumerate(columns)},
            gc=False,
        )
        self._decode_row = msgspec.json.Decoder(row).decode
        self._values = attrgetter(*(f"c{n}" for n in range(len(columns)))) if len(columns) > 1 else None
        self._id_index = columns.index(id_column) if id_column is not None else None
        messages = [] if config.system is None else [{"role": "system", "content": config.system}]
        body = {"model": config.model, "messages": [*messages, {"role": "user", "content": "\0"}], **config.params}
        # The prompt is the one part that differs: all around it is encoded once.
        self._before, _, self._after = msgspec.json.encode(body).partition(b'"\\u0000"')
        self._reply_tokens = next(
            (value for key in ("max_completion_tokens", "max_tokens") if type(value := config.params.get(key)) is int), 0
        )

    def build(self, line: bytes) -> Request:
        """Turn one input line into a request. Raises `InvalidRow` with the reason."""
        values = self._read(line)
        prompt = self._template.render(values)
        if not prompt or prompt.isspace():
            raise InvalidRow("the prompt is empty")
        body = b"".join((self._before, msgspec.json.encode(prompt), self._after))
        return Request(body, self._id_of(values), len(body) // _CHARACTERS_A_TOKEN + self._reply_tokens)

    def id_of(self, line: bytes) -> bytes:
        """Return a row's id as JSON text, null where even that cannot be read: for rows that fail before they are built."""
        try:
            return self._id_of(self._read(line))
        except InvalidRow:
            return b"null"

    @staticmethod
    def input_of(line: bytes) -> bytes:
        """Return the line as JSON that can stand in an output line; null where it is no JSON."""
        try:
            msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return b"null"
        return line.strip()

    def parse(self, body: bytes) -> Answer:
        """Read the body of a 2xx reply. Raises `BadReply` where it is none, `Refused` where the model declined."""
        try:
            completion = _decode_completion(body)
            choice = completion.choices[0]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadReply(f"no chat completion: {error}" if body else "the reply is empty") from None
        except IndexError:
            raise BadReply("a chat completion without choices") from None
        message = choice.message
        output = message.content
        if output is None:
            output = message.tool_calls
            if not output:
                if message.refusal:
                    raise Refused(message.refusal)
                if choice.finish_reason not in ("length", "content_filter"):
                    raise BadReply("a chat completion without content")
                output = ""  # cut before the first word: a result, and finish_reason says so
        usage = completion.usage
        if usage is None:
            return Answer(output, choice.finish_reason, completion.model, None, 0, 0)
        prompt_tokens = usage.get("prompt_tokens")
        completion_tokens = usage.get("completion_tokens")
        return Answer(
            output,
            choice.finish_reason,
            completion.model,
            usage,
            prompt_tokens if type(prompt_tokens) is int else 0,
            completion_tokens if type(completion_tokens) is int else 0,
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
                key = "input.id" if column == self._id_column and column not in self._template.columns else "task.prompt"
                raise InputError(
                    f"{source}: no column {column!r}, which {key} names; the columns are {', '.join(map(str, rows[0]))}"
                )

    def _read(self, line: bytes) -> tuple[Any, ...]:
        try:
            row = self._decode_row(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if not line.strip():
                raise InvalidRow("the line is blank") from None
            raise InvalidRow(f"the line is no JSON object: {error}") from None
        if self._values is None:
            values: tuple[Any, ...] = (row.c0,) if self.columns else ()
        else:
            values = self._values(row)
        if msgspec.UNSET in values:
            raise InvalidRow(f"the row has no column {self.columns[values.index(msgspec.UNSET)]!r}")
        return values

    def _id_of(self, values: tuple[Any, ...]) -> bytes:
        if self._id_index is None:
            return b"null"
        value = values[self._id_index]
        if not isinstance(value, _SCALARS):
            raise InvalidRow(f"the id in column {self._id_column!r} is neither text nor a number")
        return msgspec.json.encode(value)


_decode_completion = msgspec.json.Decoder(_Completion).decode
