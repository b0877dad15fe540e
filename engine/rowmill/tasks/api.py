"""What a task must know of an API: how its requests are laid out, and how its replies are read. One module for each.

A body is `{"model": ..., fixed members, content}`: what the configuration fixes stands first, the member that differs
from row to row last, so that a plain row costs no more than its own text. A body that begins with the model asks the
run's model, which `Task.asking` may change; with `OWN_MODEL` begins a body whose row named its own. JSON means the
same by both.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from rowmill.core.config import TaskConfig
from rowmill.core.errors import ConfigError, InvalidOutput
from rowmill.core.wire import Answer
from rowmill.tasks.conversation import Parts, Question

CHARACTERS_A_TOKEN = 4  # OpenAI's own rule of thumb; the reply's usage corrects the debit
OWN_MODEL = b'{ "model":'
PACK_BYTES = 1 << 18  # of input lines in one request: about 64,000 tokens, which any model of today takes


class Api(ABC):
    """One API. What stands here is that of an API that is asked a text and nothing beside it.

    caps: the members that bound the length of a reply, the first choice first. member: of a request, that is made of
    the row. parts: how those of a message are written; None where a text is all that is taken.
    """

    caps: ClassVar[tuple[str, ...]] = ()
    member: ClassVar[str] = "input"
    parts: ClassVar[Parts | None] = None

    @staticmethod
    @abstractmethod
    def parse(body: bytes) -> Answer:
        """Read the body of a reply to one row; see `Task.parse`."""

    @staticmethod
    def unpack(body: bytes, rows: int) -> list[Answer | InvalidOutput]:  # noqa: ARG004 - for others
        """Read the body of a reply to several rows, where a request can hold them; see `Task.unpack`."""
        raise AssertionError("the configuration's checks have not refused it")

    def fixed(self, config: TaskConfig, *, whole_reply: bool) -> dict[str, Any]:  # noqa: ARG002 - for others
        """Return the members that are the same in every request, but the model and what `content` makes."""
        return dict(config.params)

    def plain(self, config: TaskConfig) -> tuple[str, Any]:  # noqa: ARG002 - for others
        """Return the member that holds the prompt: its name, and its value with null, standing last, for the prompt."""
        return self.member, None

    def question(self, config: TaskConfig) -> Question:
        """Compile what is asked. Raises `ConfigError`, also where that is more than this API takes."""
        if self.parts is not None:
            return Question(config, self.parts)
        if config.messages is not None or config.images or config.system is not None:
            key = "messages" if config.messages is not None else "images" if config.images else "system"
            raise ConfigError(f"task.{key}: {config.api} takes a text and nothing else; write it into task.prompt")
        return Question(config, _NO_PARTS)

    def content(self, system: str | None, question: str | list[dict[str, Any]]) -> dict[str, Any]:  # noqa: ARG002
        """Return the members that one row makes; the one that no other member follows is what was asked."""
        return {self.member: question}


_NO_PARTS = Parts(text=lambda _: {}, image=lambda _: {})
