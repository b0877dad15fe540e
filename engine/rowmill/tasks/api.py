"""What a task must know of an API: how its requests are laid out, and how its replies are read. One module for each.

A body is `{"model": ..., fixed members, content}`: what the configuration fixes stands first, the member that differs
from row to row last, so that a plain row costs no more than its own text. A body that begins with the model asks the
run's model, which `Task.asking` may change; with `OWN_MODEL` begins a body whose row named its own. JSON means the
same by both.
"""

from collections.abc import Callable
from typing import Any, Protocol

from rowmill.core.config import TaskConfig
from rowmill.core.errors import InvalidOutput
from rowmill.core.wire import Answer
from rowmill.tasks.conversation import Question

CHARACTERS_A_TOKEN = 4  # OpenAI's own rule of thumb; the reply's usage corrects the debit
OWN_MODEL = b'{ "model":'
PACK_BYTES = 1 << 18  # of input lines in one request: about 64,000 tokens, which any model of today takes


class Api(Protocol):
    """One API."""

    @property
    def caps(self) -> tuple[str, ...]:
        """The members that bound the length of a reply, the first choice first."""

    def fixed(self, config: TaskConfig, *, whole_reply: bool) -> dict[str, Any]:
        """Return the members that are the same in every request, but the model and what `content` makes."""

    def plain(self, config: TaskConfig) -> tuple[str, Any]:
        """Return the member that holds the prompt: its name, and its value with null, standing last, for the prompt."""

    def question(self, config: TaskConfig) -> Question:
        """Compile what is asked. Raises `ConfigError`."""

    def content(self, system: str | None, question: str | list[dict[str, Any]]) -> dict[str, Any]:
        """Return the members that one row makes; the one that no other member follows is what was asked."""

    def parse(self, body: bytes) -> Answer:
        """Read the body of a reply to one row; see `Task.parse`."""

    @property
    def unpack(self) -> Callable[[bytes, int], list[Answer | InvalidOutput]] | None:
        """Reads the body of a reply to several rows, see `Task.unpack`; None where a request holds one row."""
