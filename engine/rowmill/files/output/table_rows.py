"""Output lines as values. Lines as they nearly all are decode in one call; any other is read member by member."""

from collections.abc import Callable
from typing import Any

import msgspec

from rowmill.core.config.sections import REPLY_PARTS
from rowmill.files.output.members import (
    NULL,
    UNREADABLE,
    Int64,
    Members,
    Misfit,
    fitted,
    plain_text,
    repaired,
)


class RowUsage(msgspec.Struct, gc=False):
    """Tokens, under the names that the APIs have for them."""

    prompt_tokens: Int64 | None = None
    completion_tokens: Int64 | None = None
    input_tokens: Int64 | None = None
    output_tokens: Int64 | None = None

    @property
    def prompt(self) -> int | None:
        """Tokens of what was asked."""
        return self.input_tokens if self.prompt_tokens is None else self.prompt_tokens

    @property
    def completion(self) -> int | None:
        """Tokens of the reply."""
        return self.output_tokens if self.completion_tokens is None else self.completion_tokens


class RowFailure(msgspec.Struct, gc=False, rename={"fault": "class"}):
    """Why a row failed."""

    fault: str | None = None
    code: str | None = None
    status: Int64 | None = None
    message: str | None = None


class RowMeta(msgspec.Struct, gc=False):
    """How a row's outcome came about."""

    provider: str | None = None
    attempts: Int64 | None = None
    requests: Int64 | None = None
    ms: Int64 | None = None


class OutputRow(msgspec.Struct, gc=False):
    """One output line."""

    index: int
    id: str | int | None
    output: Any  # its text; raw JSON where it is to be taken apart
    error: RowFailure | None
    finish_reason: str | None
    model: str | None
    usage: RowUsage | None = None
    input: Any = None  # as `Members` has it
    meta: RowMeta | None = None
    # What was kept of a reply beside its text.
    reasoning: msgspec.Raw = NULL
    tool_calls: msgspec.Raw = NULL
    logprobs: msgspec.Raw = NULL
    choices: msgspec.Raw = NULL
    message: msgspec.Raw = NULL


class _RawOutputRow(msgspec.Struct, gc=False):
    index: int
    id: msgspec.Raw = NULL
    output: msgspec.Raw = NULL
    error: msgspec.Raw = NULL
    finish_reason: msgspec.Raw = NULL
    model: msgspec.Raw = NULL
    usage: msgspec.Raw = NULL
    input: msgspec.Raw = NULL
    meta: msgspec.Raw = NULL
    reasoning: msgspec.Raw = NULL
    tool_calls: msgspec.Raw = NULL
    logprobs: msgspec.Raw = NULL
    choices: msgspec.Raw = NULL
    message: msgspec.Raw = NULL


_decode_raw = msgspec.json.Decoder(_RawOutputRow).decode
_decode_error = msgspec.json.Decoder(RowFailure | None).decode
_decode_meta = msgspec.json.Decoder(RowMeta | None).decode
_decode_usage: Callable[[msgspec.Raw], RowUsage | None] = msgspec.json.Decoder(RowUsage | None).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class OutputRowReader:
    """Reads lines.

    raw_output: leave a row's output as raw JSON. members: of the input, where it is looked at.
    """

    def __init__(self, members: Members | None, *, raw_output: bool) -> None:
        self._members = members
        self._raw_output = raw_output
        self._decode: Callable[[bytes], Any] | None = None
        if members is None or members.type is not None:
            kind = msgspec.defstruct(
                "PlainRow",
                [
                    ("output", msgspec.Raw if raw_output else str | None),
                    # What is in the line but not looked at must not be refused: it may be anything.
                    ("input", msgspec.Raw if members is None else members.type | None, None),  # type: ignore[operator]
                ],
                bases=(OutputRow,),
                gc=False,
            )
            self._decode = msgspec.json.Decoder(kind).decode

    def read(self, line: bytes) -> OutputRow:
        """Read one line."""
        if self._decode is not None:
            try:
                return self._decode(line)  # type: ignore[no-any-return]  # it is made at run time
            except UNREADABLE:
                pass
        try:
            return self._row(_decode_raw(line))
        except UNREADABLE:
            return self._row(_decode_raw(repaired(line)))

    def _row(self, raw: _RawOutputRow) -> OutputRow:
        members = self._members
        return OutputRow(
            index=raw.index,
            id=plain_text(raw.id),
            output=raw.output if self._raw_output else plain_text(raw.output),
            error=_decode_error(raw.error),
            finish_reason=plain_text(raw.finish_reason),
            model=plain_text(raw.model),
            usage=_usage(raw.usage),
            input=None if members is None else members.read(raw.input),
            meta=_decode_meta(raw.meta),
            **{part: getattr(raw, part) for part in REPLY_PARTS},
        )


def _usage(raw: msgspec.Raw) -> RowUsage | None:
    """Return what can be read of a usage, which is what the server wrote."""
    try:
        return _decode_usage(raw)
    except UNREADABLE:
        pass
    try:
        members = _decode_members(raw)
    except UNREADABLE:
        return None
    return RowUsage(*(_count(members.get(name, NULL)) for name in RowUsage.__struct_fields__))


def _count(raw: msgspec.Raw) -> int | None:
    try:
        count: int | None = fitted(raw, "int64")
    except Misfit:
        return None
    return count
