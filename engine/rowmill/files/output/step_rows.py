"""Between the steps of a run: output lines become the rows of the next step, and the last one's those of the output.

What a step before the last one seals has a line for each row of the shard, in order:

- of a row that goes on, the row's own columns and, under the step's name, its answer; of an object with known members
  each of these is a column, as "judge.score", null where the answer lacks it
- `ENDED` and JSON, of one that has failed: what the last step's worker needs to record it
- `LEFT_OUT`, of one for which the step's condition does not hold
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from rowmill.core.conditions import condition
from rowmill.core.output_codec import Join, OutputCodec
from rowmill.core.rows import ENDED, LEFT_OUT, NO_LINE, StepOfRun
from rowmill.files.output.members import NULL, UNREADABLE, repaired

_WHERE = "where"  # why a row is left out


class _Attempts(msgspec.Struct, gc=False):
    attempts: int = 0


class _StepLine(msgspec.Struct, gc=False):
    id: msgspec.Raw
    output: msgspec.Raw
    error: msgspec.Raw
    input: msgspec.Raw
    meta: _Attempts


class EndedRow(msgspec.Struct, gc=False):
    """A row of which nothing more is asked, for it has failed in a step before; but for the attempts JSON as it was."""

    attempts: int
    id: msgspec.Raw
    error: msgspec.Raw
    input: msgspec.Raw


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_StepLine).decode
_decode_ended = msgspec.json.Decoder(EndedRow).decode
_decode_any = msgspec.json.Decoder(dict[str, Any]).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def ended_row(line: bytes) -> EndedRow:
    """Read a line that begins with `ENDED`."""
    return _decode_ended(line[len(ENDED) :])


class StepRows(OutputCodec):
    """What a step that is not the last hands on."""

    key = "step"
    end = b"\n"

    def __init__(self, step: StepOfRun) -> None:
        self._name = b",%b:" % _encode(step.name)
        self._fields = (
            None
            if step.fields is None
            else [(field, b",%b:" % _encode(f"{step.name}.{field}")) for field in step.fields]
        )
        self._holds = None if step.where is None else _Condition(step)

    def encode(self, lines: Iterator[bytes]) -> Iterable[bytes]:
        """Turn output lines into rows of the next step."""
        return self.chosen(lines, Counter())

    def chosen(self, lines: Iterator[bytes], left_out: Counter[str]) -> Iterable[bytes]:
        """Turn output lines into rows of the next step, and count those that do not go on though they were answered."""
        for line in lines:
            if line == NO_LINE or (self._holds is not None and not self._holds(line)):
                left_out[_WHERE] += 1
                yield LEFT_OUT
                continue
            try:
                answered = _decode(line)
            except UNREADABLE:
                answered = _decode(repaired(line))
            if bytes(answered.error) != NO_LINE:
                ended = EndedRow(answered.meta.attempts, answered.id, answered.error, answered.input)
                yield ENDED + _encode(ended)
                continue
            columns = b"".join(self._columns(answered.output))
            row = bytes(answered.input)[:-1].rstrip()
            yield b"%b%b}" % (row, columns if len(row) > 1 else columns[1:])

    def _columns(self, output: msgspec.Raw) -> Iterator[bytes]:
        if self._fields is None:
            yield self._name + output
            return
        try:
            members = _decode_members(output)
        except UNREADABLE:  # as what a repaired line has
            members = {}
        for field, name in self._fields:
            yield name + members.get(field, NULL)


class ChosenRows(OutputCodec):
    """The output's own format, of the rows that every step has let through."""

    def __init__(self, inner: OutputCodec, step: StepOfRun) -> None:
        self._inner = inner
        self._holds = None if step.where is None else _Condition(step)
        self.key = inner.key
        self.directory_suffix = inner.directory_suffix
        self.end = inner.end

    def load(self) -> None:
        """Import what the format needs."""
        self._inner.load()

    def encode(self, lines: Iterator[bytes]) -> Iterable[bytes]:
        """Do as the format does."""
        return self._inner.encode(lines)

    def chosen(self, lines: Iterator[bytes], left_out: Counter[str]) -> Iterable[bytes]:
        """Do as the format does, of the rows that are in the output."""
        return self._inner.encode(self._let_through(lines, left_out))

    def _let_through(self, lines: Iterator[bytes], left_out: Counter[str]) -> Iterator[bytes]:
        for line in lines:
            if line == NO_LINE or (self._holds is not None and not self._holds(line)):
                left_out[_WHERE] += 1
            else:
                yield line

    def failed(self, line: bytes, attempts: int) -> bytes | None:
        """Do as the format does."""
        return self._inner.failed(line, attempts)

    def join(self) -> Join:
        """Do as the format does."""
        return self._inner.join()


class _Condition:
    """Whether a step's condition holds for an output line of its own. A row that has failed is not left out for it."""

    def __init__(self, step: StepOfRun) -> None:
        assert step.where is not None
        self._holds: Callable[[Mapping[str, Any]], bool] = condition(step.where, "step.where")
        self._name = step.name

    def __call__(self, line: bytes) -> bool:
        """Tell whether the row goes on."""
        try:
            answered = _decode_any(line)
        except UNREADABLE:
            answered = _decode_any(repaired(line))
        if answered["error"] is not None:
            return True
        row = answered["input"]
        # By the names that the steps behind have for it, too.
        answered["input"] = {**(row if isinstance(row, dict) else {}), self._name: answered["output"]}
        return self._holds(answered)
