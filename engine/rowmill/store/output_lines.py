"""The bytes of output lines and errors-file lines.

The line of a row is made once, when its outcome is known, and travels as it is through checkpoint, seal and merge.
All lines come without their newline, and hold none.
"""

import json
from typing import Any

import msgspec

from rowmill.core.wire import Answer, Failure

_encode = msgspec.json.Encoder().encode
_LF, _CR = b"\n\r"  # as numbers: looking for a byte takes a quarter of the time of looking for bytes


def result_line(index: int, id: bytes, answer: Answer, include: bytes) -> bytes:  # noqa: A002 - the member's own name
    """Return the output line of a row that has an answer.

    `id` is JSON text. `include` is what `output.include` adds, as JSON members with a comma before each
    (`b',"input":{...}'`), or empty.
    """
    line = b'{"index":%d,"id":%b,"output":%b,"error":null,"finish_reason":%b,"model":%b,"usage":%b%b}' % (
        index, id, answer.output, answer.finish_reason, answer.model, answer.usage, include,
    )  # fmt: skip
    return _one_line(line) if _LF in line or _CR in line else line


def failure_line(index: int, id: bytes, failure: Failure, include: bytes, step: str = "") -> bytes:  # noqa: A002 - as above
    """Return the output line of a row that failed; `id` and `include` as in `result_line`.

    step: in which one of several.
    """
    error = b'{"class":%b,"code":%b,"status":%b,"message":%b%b%b%b}' % (
        _json(failure.fault.name),
        _json(failure.code),
        _json(failure.status),
        _json(failure.message),
        b"" if failure.param is None else b',"param":' + _json(failure.param),
        b"" if failure.reply is None else b',"reply":' + failure.reply,
        b',"step":' + _json(step) if step else b"",
    )
    return ended_line(index, id, error, include)


def ended_line(index: int, id: bytes, error: bytes, include: bytes) -> bytes:  # noqa: A002 - as above
    """Return the output line of a row that failed as this JSON says; `id` and `include` as in `result_line`."""
    return _one_line(
        b'{"index":%d,"id":%b,"output":null,"error":%b,"finish_reason":null,"model":null,"usage":null%b}'
        % (index, id, error, include)
    )


class FailureMembers(msgspec.Struct, rename={"fault": "class"}):
    """Why a row failed; all but the class as JSON text."""

    fault: str
    code: msgspec.Raw
    status: msgspec.Raw
    message: msgspec.Raw
    param: msgspec.Raw = msgspec.Raw()  # only where the provider named one
    reply: msgspec.Raw = msgspec.Raw()  # only where there was one that was no answer
    step: msgspec.Raw = msgspec.Raw()  # only where there are several


class FailedRow(msgspec.Struct):
    """What the output line of a failed row says."""

    index: int
    id: msgspec.Raw
    error: FailureMembers


_decode_failed_row = msgspec.json.Decoder(FailedRow).decode


def failed_row(line: bytes) -> FailedRow:
    """Read the output line of a row that failed."""
    try:
        return _decode_failed_row(line)
    except msgspec.DecodeError:  # JSON that msgspec refuses: half a surrogate pair in the row's id or input
        loose = json.loads(line)
        fault = loose["error"].pop("class")
        error = {name: msgspec.Raw(_json(value)) for name, value in loose["error"].items()}
        return FailedRow(loose["index"], msgspec.Raw(_json(loose["id"])), FailureMembers(fault, **error))


def error_line(row: FailedRow, attempts: int) -> bytes:
    """Return the errors-file line of a failed row that took so many attempts."""
    error = row.error
    return b'{"index":%d,"id":%b,"class":%b,"code":%b,"status":%b,"message":%b,"attempts":%d%b%b%b}' % (
        row.index,
        row.id,
        _json(error.fault),
        error.code,
        error.status,
        error.message,
        attempts,
        b',"param":%b' % error.param if error.param else b"",
        b',"reply":%b' % error.reply if error.reply else b"",
        b',"step":%b' % error.step if error.step else b"",
    )


def fault_of(line: bytes) -> str:
    """Return the class that a line of the errors file names, in whatever output format."""
    row = json.loads(str(line, "utf-8", "replace"))
    if "class" in row:
        fault: str = row["class"]
    elif row["response"] is None:  # these are lines of the format "batch"
        fault = row["error"]["code"]
    else:
        fault = row["response"]["body"]["error"]["type"]
    return fault


def _json(value: Any) -> bytes:
    """Encode any JSON value, also one with half a surrogate pair in a string, which has no UTF-8 form."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        clean = json.loads(json.dumps(value), parse_constant=lambda _: None)  # NaN is null, as msgspec has it
        return json.dumps(clean, separators=(",", ":")).encode()


def _one_line(line: bytes) -> bytes:
    """Return the line without line breaks. In valid JSON they stand only between tokens, where a space does as well."""
    return line.replace(b"\r", b" ").replace(b"\n", b" ")
