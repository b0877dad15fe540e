"""`task.per_row`: members of a request whose value stands in a column of the row.

A null, an empty text or a missing column leaves the run's own value. Tables of text, as CSV files are, hold numbers
as text: for members that no API takes as text it is read as the JSON that it is.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from rowmill.core.errors import InvalidRow
from rowmill.tasks import numbers
from rowmill.tasks.rows import ColumnUse

_NEVER_TEXT = frozenset({
    "best_of", "dimensions", "extra_body", "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens",
    "max_output_tokens", "max_tokens", "metadata", "min_p", "min_tokens", "parallel_tool_calls", "presence_penalty",
    "reasoning", "repetition_penalty", "response_format", "seed", "store", "temperature", "text", "tools", "top_k",
    "top_logprobs", "top_p",
})  # fmt: skip


class PerRow:
    """The members that one configuration takes from columns."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._columns = dict(columns)
        self.named = [ColumnUse(column, f"task.per_row.{member}", required=False) for member, column in columns.items()]

    def members(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the members that this row sets. Raises `InvalidRow` for a value that cannot be one."""
        members: dict[str, Any] = {}
        for member, column in self._columns.items():
            value = values.get(column)
            if value is None or value == "":
                continue
            if member == "model" and not (isinstance(value, str) and value.strip()):
                raise InvalidRow(f"task.per_row.model: column {column!r} holds no name of a model")
            if isinstance(value, str) and member in _NEVER_TEXT:
                try:
                    value = numbers.decode(value.encode())
                except (msgspec.DecodeError, RecursionError):
                    raise InvalidRow(f"task.per_row.{member}: column {column!r} holds {value[:100]!r}") from None
            members[member] = value
        if isinstance(extra := members.pop("extra_body", {}), dict):
            if extra.get("stream"):
                raise InvalidRow(
                    "task.per_row.extra_body: stream is set by provider.stream, for servers that only stream; remove it"
                )
            members.update(extra)  # as the openai package would send it
        else:
            raise InvalidRow(f"task.per_row.extra_body: column {self._columns['extra_body']!r} holds no object")
        return members
