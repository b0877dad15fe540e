"""A composed task: whatever a plain one is not: Jinja2, messages, images, members of the request by column."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Unpack

from rowmill.core.config import TaskConfig
from rowmill.core.errors import InvalidRow
from rowmill.core.wire import Request
from rowmill.tasks.api import CHARACTERS_A_TOKEN, OWN_MODEL, Api
from rowmill.tasks.api_task import ApiTask, Asking
from rowmill.tasks.conversation import SystemText
from rowmill.tasks.per_row import PerRow
from rowmill.tasks.rows import encode

_DATA_URL = re.compile(rb'"data:[^"]*"')
_IMAGE_TOKENS = 1000  # about what a large image costs; its characters would be hundreds of times as many


class ComposedTask(ApiTask):
    """Builds the requests of one task. With rows_per_request above 1 a row's piece is its prompt as JSON."""

    def __init__(
        self,
        api: Api,
        config: TaskConfig,
        id_column: str | None,
        *,
        images_root: Path | None = None,
        **asking: Unpack[Asking],
    ) -> None:
        """Compile the task. Raises `ConfigError` where a template is none.

        images_root: the directory below which a row may name files of this machine; None: it may not.
        """
        self._system = SystemText(config)
        self._question = api.question(config)
        self._question.images_root = images_root
        self._per_row = PerRow(config.per_row)
        named = [*self._question.named, *self._system.named, *self._per_row.named]
        whole_row = self._question.whole or self._system.whole
        super().__init__(api, config, id_column, named, whole_row=whole_row, **asking)
        self._content = api.content
        self._model = _model(config.model)
        if any(key in config.per_row for key in api.caps):
            self.reply_tokens = 0  # it is the row that says

    def build(self, line: bytes) -> Request:
        """Turn one input line into a request. Raises `InvalidRow` with the reason."""
        values = self._rows.read(line)
        id_ = self._rows.id_in(values)
        own = self._per_row.members(values)
        content = self._content(self._system.of(values), self._question.of(values))
        try:
            if self.rows_per_request > 1:
                (piece,) = content.values()
                body = encode(piece)
                return Request(body, id_, len(body) // CHARACTERS_A_TOKEN)
            model = self._model_of(own)
            body = model + encode({**self._members, **own, **content})[1:]
        except UnicodeEncodeError as error:  # half a surrogate pair, which only a template can make
            raise InvalidRow(f"the request cannot be written as UTF-8: {error.reason}") from None
        return Request(body, id_, tokens_of(body))

    def _model_of(self, own: dict[str, object]) -> bytes:
        if "model" in own:
            return b"%b%b," % (OWN_MODEL, encode(own.pop("model")))
        if self._config.model is None and (column := self._config.per_row.get("model")) is not None:
            raise InvalidRow(f"the row names no model in column {column!r}, and task.model none for such rows")
        return self._model

    def asking(self, model: str) -> Callable[[bytes], bytes]:
        """Return what turns a body into one that asks another model the same, but where the row named its own."""
        if self.rows_per_request > 1:
            return super().asking(model)
        mine, other = self._model, _model(model)
        return lambda body: other + body[len(mine) :] if body.startswith(mine) else body


def tokens_of(body: bytes) -> int:
    """Estimate the tokens of a body that may hold images."""
    if b'"data:' not in body:
        return len(body) // CHARACTERS_A_TOKEN
    images = [len(url) for url in _DATA_URL.findall(body)]
    return (len(body) - sum(images)) // CHARACTERS_A_TOKEN + _IMAGE_TOKENS * len(images)


def _model(name: str | None) -> bytes:
    return encode({"model": name})[:-1] + b","
