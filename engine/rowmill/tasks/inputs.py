"""The request side of the APIs that are asked a text and nothing beside it: completions, embeddings, moderations."""

from typing import Any

from rowmill.core.config import TaskConfig
from rowmill.core.errors import ConfigError
from rowmill.tasks.conversation import Parts, Question


class TextInput:
    """Requests whose one member that differs is a text."""

    member = "input"
    caps: tuple[str, ...] = ()

    @staticmethod
    def fixed(config: TaskConfig, *, whole_reply: bool) -> dict[str, Any]:  # noqa: ARG004 - see `api.Api`
        """Return the members that are the same in every request."""
        return dict(config.params)

    @classmethod
    def plain(cls, config: TaskConfig) -> tuple[str, Any]:  # noqa: ARG003 - see `api.Api`
        """Return the member with null in the prompt's place."""
        return cls.member, None

    @staticmethod
    def question(config: TaskConfig) -> Question:
        """Compile what is asked. Raises `ConfigError` where that is more than a text."""
        if config.messages is not None or config.images or config.system is not None:
            key = "messages" if config.messages is not None else "images" if config.images else "system"
            raise ConfigError(f"task.{key}: {config.api} takes a text and nothing else; write it into task.prompt")
        return Question(config, _NO_PARTS)

    @classmethod
    def content(cls, system: str | None, question: str | list[dict[str, Any]]) -> dict[str, Any]:  # noqa: ARG003
        """Return the member of one row."""
        return {cls.member: question}


_NO_PARTS = Parts(text=lambda _: {}, image=lambda _: {})
