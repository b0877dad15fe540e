"""From a line to what the output and the error file say about it."""

from random import Random
from typing import Any

import msgspec

from rowmill.simulator import faults, replies
from rowmill.simulator.batches.objects import Entry
from rowmill.simulator.batches.request_lines import RequestLine
from rowmill.simulator.batches.words import line_faults
from rowmill.simulator.provider import SimulatedProvider
from rowmill.simulator.replies import RequestError
from rowmill.simulator.replies.reply import encode
from rowmill.simulator.routes import Route

# code -> message of what is written of lines that were not worked on
UNDONE = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "This request was cancelled because the batch was cancelled.",
}
_STATUSES = ("500", "429", "503")  # faults of lines that are named as those of live requests
_BAD_BODY = b'{"detail":"upstream connect error or disconnect before headers"}'


class Answered(msgspec.Struct, frozen=True, gc=False):
    """A line's end."""

    key: int  # the one that the same request has in the live figures
    output: bytes = b""  # for the output file
    error: bytes = b""  # for the error file
    completed: bool = False  # as the batch's counts say
    success: bool = False  # the output file has a valid reply
    damaged: bool = False  # it has one whose content is spoiled
    prompt_tokens: int = 0  # billed
    completion_tokens: int = 0
    inputs: int = 0  # 0: it costs nothing


class LineWorker:
    """Answers the lines of one batch, in the order in which they are drawn: its faults follow from that order.

    Mutable state: random numbers and how many lines it had.
    """

    def __init__(self, provider: SimulatedProvider, route: Route, entry: Entry, *, all_failed: bool) -> None:
        settings = provider.settings
        seed = f"{settings.seed} {provider.name} batch {entry.number}"
        self._provider = provider
        self._route = route
        self._ids = entry.batch.id.removeprefix("batch_")
        self._all_failed = all_failed
        self._faults = line_faults(settings.batch_faults, Random(f"{seed} lines"))  # noqa: S311 - repeatable, no secret
        self._content = faults.ContentPlan(settings, Random(f"{seed} content"))  # noqa: S311 - the same
        self._count = 0

    def answer(self, line: RequestLine) -> Answered:
        """Answer a line as the live route would, or as its fault says."""
        body = bytes(line.body)
        mark = replies.fingerprint(body)
        key = self._route.key(mark)
        fault = "500" if self._all_failed else self._faults.draw()
        if fault in _STATUSES:
            refused = faults.CATALOGUE[fault]
            return Answered(key, error=self._written(line, refused.status, refused.body or b""))
        if fault == "status_0":
            return Answered(key, error=self._written(line, 0, b"null"))
        if fault == "null_response":
            return Answered(key, error=self.undone(line, "server_error", "The server had an error."))
        try:
            completion = self._provider.compose(self._route, body, mark)
        except RequestError as error:
            return Answered(key, error=self._written(line, error.status, error.body))
        if fault == "missing":
            return Answered(key, completed=True)
        struck = faults.OK
        if completion.structured:
            plan = self._content
            completion, struck = self._provider.damage(self._route, body, mark, completion, faults.OK, plan=plan)
        damaged = fault == "bad_body" or struck.content
        written = self._written(line, 200, _BAD_BODY if fault == "bad_body" else completion.body)
        return Answered(
            key,
            written * 2 if fault == "twice" else written,
            completed=True,
            success=not damaged,
            damaged=damaged,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            inputs=completion.inputs,
        )

    def undone(self, line: RequestLine, code: str, message: str) -> bytes:
        """Write what the error file says of a line without a response."""
        return _line(line, self._next_id(), None, {"code": code, "message": message})

    def _written(self, line: RequestLine, status: int, body: bytes) -> bytes:
        own = self._next_id()
        request = f"req_{own}" if status else ""
        return _line(line, own, {"status_code": status, "request_id": request, "body": msgspec.Raw(body)}, None)

    def _next_id(self) -> str:
        self._count += 1
        return f"{self._ids}{self._count:06x}"


def _line(line: RequestLine, own: str, response: dict[str, Any] | None, error: dict[str, str] | None) -> bytes:
    told = {"id": f"batch_req_{own}", "custom_id": line.custom_id, "response": response, "error": error}
    return encode(told) + b"\n"
