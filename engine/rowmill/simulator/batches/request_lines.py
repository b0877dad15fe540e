"""The lines of an input file: what validation says about them, and the order in which they are answered."""

from collections.abc import Iterable, Iterator
from random import Random

import msgspec

from rowmill.simulator.batches.objects import Problem
from rowmill.simulator.replies.reply import UNKNOWN_MODEL
from rowmill.simulator.routes import of_url

REQUESTS = 50_000  # of a batch
FILE_BYTES = 200 * 1024 * 1024  # of its input file

_PROBLEMS = 50  # reported of one file
_BUFFER_LINES = 512  # of lines that wait to be drawn
_BUFFER_BYTES = 4 * 1024 * 1024


class RequestLine(msgspec.Struct, frozen=True, gc=False):
    """One request of a batch."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw  # its bytes exactly as they stand in the file


class _BodyModel(msgspec.Struct, gc=False):
    model: str | None = None


read = msgspec.json.Decoder(RequestLine).decode
_decode_body = msgspec.json.Decoder(_BodyModel).decode
_WRONG = (msgspec.DecodeError, UnicodeDecodeError)


class Validation:
    """Validation of one file, a line after the other.

    Raises nothing: what is wrong is in `problems`, of which the first `_PROBLEMS` are kept.
    """

    def __init__(self, endpoint: str, size: int) -> None:
        self.problems: list[Problem] = []
        self.total = 0
        self.model: str | None = None
        self._endpoint = endpoint
        self._ids: set[str] = set()
        if size > FILE_BYTES:
            self._add("file_too_large", f"The file has {size} bytes; at most {FILE_BYTES} are allowed.", None)

    def take(self, number: int, raw: bytes) -> RequestLine | None:
        """Look at the line with this number, from 1; None where it is no request."""
        self.total += 1
        if self.total == REQUESTS + 1:
            self._add("too_many_tasks", f"The file has more requests than the {REQUESTS} that are allowed.", None)
        try:
            line = read(raw)
        except msgspec.ValidationError as error:
            self._add("missing_required_parameter", f"This line is no request: {error}.", number)
            return None
        except _WRONG:
            self._add("invalid_json_line", "This line is not parseable as valid JSON.", number)
            return None
        self._look(number, line)
        return line

    def end(self) -> None:
        """Look at the file as a whole."""
        if not self.total:
            self._add("empty_file", "The file has no requests.", None)

    @property
    def full(self) -> bool:
        """Nothing more would be reported."""
        return len(self.problems) >= _PROBLEMS

    def _look(self, number: int, line: RequestLine) -> None:
        if line.custom_id in self._ids:
            self._add("duplicate_custom_id", f"The custom_id '{line.custom_id}' is not unique.", number, "custom_id")
        self._ids.add(line.custom_id)
        if line.method != "POST":
            self._add("invalid_method", f"The method '{line.method}' is not POST.", number, "method")
        if line.url != self._endpoint:
            message = f"The URL '{line.url}' does not match the batch's endpoint '{self._endpoint}'."
            self._add("mismatched_url" if of_url(line.url) else "invalid_url", message, number, "url")
        try:
            model = _decode_body(line.body).model
        except _WRONG:
            self._add("missing_required_parameter", "The body is no request.", number, "body")
            return
        if model is None:
            self._add("missing_required_parameter", "The body has no model.", number, "body.model")
        elif self.model is None:
            self.model = model
            if model.startswith(UNKNOWN_MODEL):
                message = f"The provided model '{model}' is not supported by the Batch API."
                self._add("model_not_found", message, number, "body.model")
        elif model != self.model:
            message = f"The model '{model}' does not match '{self.model}': a file has one model."
            self._add("mismatched_model", message, number, "body.model")

    def _add(self, code: str, message: str, line: int | None, param: str | None = None) -> None:
        if not self.full:
            self.problems.append(Problem(code=code, message=message, line=line, param=param))


def shuffled(source: Iterable[bytes], random: Random) -> Iterator[bytes]:
    """Yield lines in another order, drawn from a buffer of at most 512 lines and about 4 MiB."""
    buffer: list[bytes] = []
    held = 0
    for raw in filter(bytes.strip, source):  # without blank lines
        buffer.append(raw)
        held += len(raw)
        while len(buffer) > _BUFFER_LINES or (held > _BUFFER_BYTES and len(buffer) > 1):
            drawn = _draw(buffer, random)
            held -= len(drawn)
            yield drawn
    while buffer:
        yield _draw(buffer, random)


def _draw(buffer: list[bytes], random: Random) -> bytes:
    at = int(random.random() * len(buffer))  # a third of the price of randrange
    buffer[at], buffer[-1] = buffer[-1], buffer[at]
    return buffer.pop()
