"""The words of scripts: what becomes of a batch, of an uploaded file, and of a line.

`batch_script` has one item for each batch created, in order; `upload_script` one for each file uploaded. An item is a
word, or several joined by "+" ("create_lost+expired:0.6"); "ok" stands for none. `batch_faults` has shares of lines.

===================  =================================================================================================
of a batch
-------------------  -------------------------------------------------------------------------------------------------
expired[:SHARE]      expires when SHARE of its lines is done (0.6); the rest is `batch_expired` in the error file
failed[:CODE]        fails in validation, with this code (invalid_json_line); failed:CODE:line=N names a line
all_failed           every line is a 500 in the error file, and there is no output file
empty_ids            the id of a file that there is not is "" where it would be null
stuck[:SHARE]        stays in_progress with SHARE of its lines done (0.5) until it is cancelled
stuck:validating     stays so until it is cancelled
stuck:cancelling     as stuck, and once it is cancelled it stays cancelling for ever
create_lost          is created, but the connection is reset instead of a reply
create_late:SECONDS  the connection is reset, and the batch appears only so much later
create_500           answers 500, and there is no batch
content_502          its output file's content answers 502, as HTML, the first two times
content_cut          its output file's content breaks off in the middle the first time
gone                 is created, and from then on unknown: 404, in no list, and not worked on
===================  =================================================================================================

==================  ==================================================================================================
of a file
------------------  --------------------------------------------------------------------------------------------------
upload_lost         is stored, but the connection is reset instead of a reply
upload_500          answers 500, and is not stored
upload_403          answers that the key has no permission for it, and is not stored
upload_slow:SECONDS is stored, and answered so much later
==================  ==================================================================================================

=============  =======================================================================================================
of a line
-------------  -------------------------------------------------------------------------------------------------------
missing        is in no file
500, 429, 503  failed with that status: in the error file
status_0       in the error file with the status code 0 and no body
null_response  in the error file without a response, with the error "server_error"
bad_body       status 200, and a body that is no reply
twice          is in the output file twice
=============  =======================================================================================================
"""

from collections.abc import Callable, Mapping
from random import Random
from sys import float_info
from typing import Any, Literal

import msgspec

from rowmill.simulator.faults import Shares, require_known


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one batch, or of one upload."""

    answer: Literal["ok", "lost", "500", "403"] = "ok"  # to what creates it
    slow_s: float = 0.0  # before the answer to an upload
    late_s: float = 0.0
    failed: str | None = None  # the code of an error of validation
    line: int | None = None  # the line that it names
    all_failed: bool = False
    empty_ids: bool = False
    expires_at: float | None = None  # share of its lines
    stuck: Literal["validating", "in_progress", "cancelling"] | None = None
    stuck_at: float = 0.5  # share of its lines
    content: Literal["", "502", "cut"] = ""
    gone: bool = False


_Changes = dict[str, Any]
_Read = Callable[[str], _Changes]  # from what stands after the colon; "" where nothing does


def _plain(**changes: Any) -> _Read:
    def read(argument: str) -> _Changes:
        if argument:
            raise ValueError("nothing may follow it")
        return changes

    return read


def _number(text: str, most: float, wrong: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= most:
        raise ValueError(wrong)
    return number


def _share(text: str) -> float:
    return _number(text, 1, f"{text!r} is no share from 0 to 1")


def _seconds(key: str, **changes: Any) -> _Read:
    return lambda argument: {key: _number(argument, float_info.max, "seconds must follow it, as in :0.5"), **changes}


def _expired(argument: str) -> _Changes:
    return {"expires_at": _share(argument or "0.6")}


def _failed(argument: str) -> _Changes:
    code, _, place = argument.partition(":")
    number = place.removeprefix("line=")
    if place and (number == place or not number.isdecimal()):
        raise ValueError("write it as failed:CODE:line=N")
    return {"failed": code or "invalid_json_line", "line": int(number) if place else None}


def _stuck(argument: str) -> _Changes:
    if argument in ("validating", "cancelling"):
        return {"stuck": argument}
    return {"stuck": "in_progress", "stuck_at": _share(argument or "0.5")}


_OF_BATCHES: Mapping[str, _Read] = {
    "ok": _plain(),
    "expired": _expired,
    "failed": _failed,
    "all_failed": _plain(all_failed=True),
    "empty_ids": _plain(empty_ids=True),
    "stuck": _stuck,
    "create_lost": _plain(answer="lost"),
    "create_late": _seconds("late_s", answer="lost"),
    "create_500": _plain(answer="500"),
    "content_502": _plain(content="502"),
    "content_cut": _plain(content="cut"),
    "gone": _plain(gone=True),
}
_OF_FILES: Mapping[str, _Read] = {
    "ok": _plain(),
    "upload_lost": _plain(answer="lost"),
    "upload_500": _plain(answer="500"),
    "upload_403": _plain(answer="403"),
    "upload_slow": _seconds("slow_s"),
}
LINE_FAULTS = ("missing", "500", "429", "503", "status_0", "null_response", "bad_body", "twice")


def batch_script(item: str) -> Script:
    """Read an item of `batch_script`. Raises ValueError."""
    return _read(item, _OF_BATCHES)


def upload_script(item: str) -> Script:
    """Read an item of `upload_script`. Raises ValueError."""
    return _read(item, _OF_FILES)


def _read(item: str, known: Mapping[str, _Read]) -> Script:
    changes: _Changes = {}
    for word in item.split("+"):
        name, _, argument = word.partition(":")
        require_known(name, known, "word")
        try:
            changes |= known[name](argument)
        except ValueError as error:
            raise ValueError(f"{word!r} of a script: {error}") from None
    return Script(**changes)


def line_faults(shares: Mapping[str, float], random: Random) -> Shares:
    """Return what draws the fault of each line. Raises ValueError for names or shares that cannot be."""
    for name in shares:
        require_known(name, LINE_FAULTS, "word")
    return Shares(shares, random, one="", every="line faults")
