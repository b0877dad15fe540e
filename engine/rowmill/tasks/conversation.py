"""A row -> what is asked: a prompt, or a conversation, with the images of the row.

`task.messages` is a column that holds a list of messages (or of the turns of `sharegpt`), or a list of messages whose
contents are templates. The row's images stand at the end of its last user message. Shapes are those of the API that is
asked: chat completions and responses name the parts of a message differently.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from rowmill.core.config import TaskConfig
from rowmill.core.errors import ConfigError, InvalidRow
from rowmill.tasks import numbers
from rowmill.tasks.images import image_urls
from rowmill.tasks.rows import ColumnUse
from rowmill.tasks.sharegpt import as_messages, held_list, is_sharegpt
from rowmill.tasks.template import Template, TextTemplate

_SYSTEM_ROLES = frozenset({"system", "developer"})

Part = Callable[[str], dict[str, Any]]
Message = dict[str, Any]


class Parts(msgspec.Struct, frozen=True):
    """How an API writes the parts of a message."""

    text: Part
    image: Part


def compiled(text: str, key: str, config: TaskConfig) -> TextTemplate:
    """Compile a text in the configuration's template language. Raises `ConfigError` where it is none."""
    if config.template == "format":
        return Template(text, key)
    from rowmill.tasks.jinja import JinjaTemplate

    return JinjaTemplate(text, key)


class SystemText:
    """`task.system`: a text as it stands, braces and all; a template only where `task.template` is "jinja"."""

    def __init__(self, config: TaskConfig) -> None:
        self._text = config.system
        self._template: TextTemplate | None = None
        if config.system is not None and config.template == "jinja":
            self._template = compiled(config.system, "task.system", config)
        self.named = self._template.named if self._template is not None else []
        self.whole = self._template is not None and self._template.whole

    def of(self, values: dict[str, Any]) -> str | None:
        """Return the text for a row; None where the configuration has none."""
        return self._template.render(values) if self._template is not None else self._text


class Question:
    """What one configuration asks of its rows, without the system text.

    named: the columns that it takes. whole: it wants every column.
    """

    def __init__(self, config: TaskConfig, parts: Parts) -> None:
        self._api = config.api
        self._parts = parts
        self._images = list(config.images)
        self.images_root: Path | None = None  # no file that does not lie below it is read
        self.named = [ColumnUse(column, "task.images") for column in config.images]
        self.whole = False
        self._column: str | None = None
        self._prompt: TextTemplate | None = None
        self._messages: list[tuple[Message, Any]] = []
        if isinstance(config.messages, str):
            self._column = config.messages
            self.named.append(ColumnUse(config.messages, "task.messages"))
        elif config.messages is not None:
            self._messages = [self._message(number, each, config) for number, each in enumerate(config.messages)]
        else:
            assert config.prompt is not None
            self._prompt = self._compiled(config.prompt, "task.prompt", config)

    def of(self, values: dict[str, Any]) -> str | list[Message]:
        """Return what to ask for a row: a text where that is all of it. Raises `InvalidRow`."""
        images = self._images_of(values)
        if self._prompt is not None:
            prompt = self._prompt.render(values)
            if not prompt or prompt.isspace():
                if not images:
                    raise InvalidRow("the prompt is empty")
                return [{"role": "user", "content": images}]
            return [{"role": "user", "content": [self._parts.text(prompt), *images]}] if images else prompt
        messages = self._read(values[self._column]) if self._column is not None else self._rendered(values)
        if images:
            self._append(messages, images)
        elif self._column is None and _asks_nothing(messages):
            raise InvalidRow("the prompt is empty")
        return messages

    def _compiled(self, text: str, key: str, config: TaskConfig) -> TextTemplate:
        template = compiled(text, key, config)
        self.named += template.named
        self.whole = self.whole or template.whole
        return template

    def _message(self, number: int, message: Message, config: TaskConfig) -> tuple[Message, Any]:
        """Split a message of the configuration into what is fixed and the templates of its content."""
        key = f"task.messages[{number}]"
        if not isinstance(message.get("role"), str):
            raise ConfigError(f"{key}: role is missing; write it as a text, such as user")
        content = message.get("content")
        if not isinstance(content, str | list):
            raise ConfigError(f"{key}: content is missing; write it as a text, or as a list of parts")
        fixed = {name: value for name, value in message.items() if name != "content"}
        return fixed, self._templates_in(content, f"{key}.content", config)

    def _templates_in(self, value: Any, key: str, config: TaskConfig) -> Any:
        if isinstance(value, str):
            return self._compiled(value, key, config)
        if isinstance(value, list):
            return [self._templates_in(each, f"{key}[{number}]", config) for number, each in enumerate(value)]
        if isinstance(value, dict):
            return {name: self._templates_in(each, f"{key}.{name}", config) for name, each in value.items()}
        return value

    def _rendered(self, values: dict[str, Any]) -> list[Message]:
        return [{**fixed, "content": _filled(content, values)} for fixed, content in self._messages]

    def _read(self, value: Any) -> list[Message]:
        """Check the shape of a row's own messages: what no API takes would fail there, at the price of a request."""
        where = f"task.messages: column {self._column!r}"
        if isinstance(value, str):  # tables of text hold it as JSON
            try:
                value = numbers.decode(value.encode())
            except (msgspec.DecodeError, RecursionError):
                raise InvalidRow(f"{where} is a text, and no JSON list of messages") from None
        value = held_list(value)
        if not isinstance(value, list):
            raise InvalidRow(f"{where} is no list of messages")
        if not value:
            raise InvalidRow(f"{where} is an empty list")
        if is_sharegpt(value):
            value = as_messages(value, self._api, where)
        for number, message in enumerate(value):
            if not isinstance(message, dict):
                raise InvalidRow(f"{where}: message {number} is no object")
            if "role" not in message and "type" in message:
                continue  # an item of the responses API that nobody said: a call of a function, its result
            if not isinstance(message.get("role"), str):
                raise InvalidRow(f"{where}: message {number} has no role")
            if not isinstance(message.get("content"), str | list | None):
                raise InvalidRow(f"{where}: message {number} has a content that is neither text nor a list of parts")
        return [_without_nulls(message) for message in value]

    def _images_of(self, values: dict[str, Any]) -> list[dict[str, Any]]:
        found = []
        for column in self._images:
            try:
                found += [self._parts.image(url) for url in image_urls(values[column], self.images_root)]
            except InvalidRow as error:
                raise InvalidRow(f"task.images: column {column!r}: {error}") from None
        return found

    def _append(self, messages: list[Message], images: list[dict[str, Any]]) -> None:
        last = next(
            (number for number in reversed(range(len(messages))) if messages[number].get("role") == "user"), None
        )
        if last is None:
            messages.append({"role": "user", "content": images})
            return
        content = messages[last].get("content")
        parts = [self._parts.text(content)] if isinstance(content, str) and content else content or []
        messages[last] = {**messages[last], "content": [*parts, *images]}


def with_system(system: str | None, question: str | list[Message]) -> list[Message]:
    """Return the messages of a conversation. A row's own first system message stands in the place of the run's."""
    messages: list[Message] = [{"role": "user", "content": question}] if isinstance(question, str) else question
    if system is None or messages[0].get("role") in _SYSTEM_ROLES:
        return messages
    return [{"role": "system", "content": system}, *messages]


def _filled(content: Any, values: dict[str, Any]) -> Any:
    if isinstance(content, list):
        return [_filled(each, values) for each in content]
    if isinstance(content, dict):
        return {name: _filled(each, values) for name, each in content.items()}
    return content.render(values) if hasattr(content, "render") else content


def _asks_nothing(messages: list[Message]) -> bool:
    contents = [message.get("content") for message in messages if message.get("role") == "user"]
    return bool(contents) and all(isinstance(content, str) and not content.strip() for content in contents)


def _without_nulls(message: Message) -> Message:
    """Leave out what is null, but the content: a table has every member in every row, and APIs refuse most nulls."""
    content = message.get("content")
    if isinstance(content, list):
        content = [_present(part) if isinstance(part, dict) else part for part in content]
    present = _present(message)
    return {**present, "content": content} if "content" in message else present


def _present(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
