"""A plain task: one `{column}` prompt a row and nothing else that differs. Nearly every row of nearly every run.

It has a path of its own, because a request costs little more than what is done here: the row is decoded to just the
prompt's columns as texts, the prompt is one format operation, and the body is three pieces of bytes put together.
"""

from operator import attrgetter
from typing import Unpack

import msgspec

from rowmill.core.config import TaskConfig
from rowmill.core.errors import InvalidRow
from rowmill.core.wire import Request
from rowmill.tasks.api import CHARACTERS_A_TOKEN, Api
from rowmill.tasks.api_task import ApiTask, Asking
from rowmill.tasks.numbers import encode
from rowmill.tasks.rows import UNREADABLE, row_decoder
from rowmill.tasks.template import Template

_ExactId = str | int | bool | None  # not a float, which the decoder would not give back as it was written


def is_plain(config: TaskConfig) -> bool:
    """Tell whether the configuration asks for no more than a plain task does."""
    return (
        config.template == "format"
        and config.prompt is not None
        and config.messages is None
        and not config.images
        and not config.per_row
    )


class PlainTask(ApiTask):
    """Builds the requests of one plain task. With rows_per_request above 1 a row's piece is its prompt as JSON."""

    def __init__(self, api: Api, config: TaskConfig, id_column: str | None, **asking: Unpack[Asking]) -> None:
        """Compile the task. Raises `ConfigError` where its template is none."""
        assert config.prompt is not None
        template = Template(config.prompt, "task.prompt")
        super().__init__(api, config, id_column, template.named, **asking)
        self._template = template
        columns = self._rows.columns
        assert columns is not None
        # Two decoders: a row whose columns are all there and all text, as nearly all are, needs no further look.
        texts = [str] * len(template.columns) + [_ExactId] * (len(columns) - len(template.columns))
        self._decode_texts = row_decoder(columns, texts)
        self._pattern = template.pattern
        # Without columns the prompt is the same for every row; an empty tuple then fills in nothing.
        self._prompt_values = attrgetter(*(f"c{use}" for use in template.uses)) if template.uses else _nothing
        self._id_value = attrgetter(f"c{columns.index(id_column)}") if id_column is not None else None
        # The prompt is the one part that differs, and stands last: all before and behind it is encoded once.
        self._head, self._tail = (b"", b"") if self.rows_per_request > 1 else (self._before, self._after)

    def build(self, line: bytes) -> Request:
        """Turn one input line into a request. Raises `InvalidRow` with the reason."""
        decode, prompt_values, id_value = self._decode_texts, self._prompt_values, self._id_value
        try:
            row = decode(line)
        except UNREADABLE:
            values = self._rows.read(line)
            prompt, id_ = self._template.render(values), self._rows.id_in(values)
        else:
            prompt = self._pattern % prompt_values(row)
            id_ = b"null" if id_value is None else encode(id_value(row))
        if not prompt or prompt.isspace():
            raise InvalidRow("the prompt is empty")
        body = self._head + encode(prompt) + self._tail
        return Request(body, id_, len(body) // CHARACTERS_A_TOKEN)


def _nothing(_row: msgspec.Struct) -> tuple[()]:
    return ()
