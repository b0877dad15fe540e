"""What the tasks of all APIs share, however their bodies are made: reading replies, packs of inputs, another model."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TypedDict, Unpack

import msgspec

from rowmill.core.config import TaskConfig
from rowmill.core.config.sections import ReplyPart
from rowmill.core.errors import InvalidOutput
from rowmill.core.wire import Answer, Request
from rowmill.tasks.api import CHARACTERS_A_TOKEN, Api
from rowmill.tasks.readers import choices_asked, reader
from rowmill.tasks.rows import ColumnReader, ColumnUse, encode, input_of


class Asking(TypedDict, total=False):
    """How rows are asked and their replies kept.

    Whole, with parts beside the text, and so many rows in one request; left out, none of it.
    """

    whole_reply: bool
    parts: Sequence[ReplyPart]
    rows_per_request: int


class ApiTask(ABC):
    """The part of a `Task` that does not depend on how a body is made of a row.

    parse: see `Task.parse`; an attribute, so that a call of it is one call.
    """

    documents = None

    def __init__(
        self,
        api: Api,
        config: TaskConfig,
        id_column: str | None,
        uses: Sequence[ColumnUse],
        *,
        whole_row: bool = False,
        **asking: Unpack[Asking],
    ) -> None:
        whole_reply = asking.get("whole_reply", False)
        self._config = config
        self._rows = ColumnReader(uses, id_column, whole=whole_row)
        self.columns = self._rows.columns
        self.same_for_all = not uses and not whole_row
        self.id_of: Callable[[bytes], bytes] = self._rows.id_of
        self.check: Callable[[Iterable[bytes], str], None] = self._rows.check
        self.input_of: Callable[[bytes], bytes] = input_of
        self.parse = reader(api, config, whole_reply=whole_reply, parts=asking.get("parts", ()))
        self._unpack = api.unpack
        self.rows_per_request = asking.get("rows_per_request", 1)
        name, value = api.plain(config)
        self._members = api.fixed(config, whole_reply=whole_reply)
        self._layout = {**self._members, name: value}
        # What the configuration leaves open for the prompt: `null`, and the brackets that close what it stands in.
        self._after = encode({name: value}).rpartition(b"null")[2]
        self._before = self.beginning(config.model)
        self.shared_tokens = len(config.system or "") // CHARACTERS_A_TOKEN
        cap = next((tokens for key in api.caps if type(tokens := config.params.get(key)) is int), 0)
        self.reply_tokens = cap * choices_asked(config)

    @abstractmethod
    def build(self, line: bytes) -> Request:
        """Turn one input line into a request; see `Task.build`."""

    def asking(self, model: str) -> Callable[[bytes], bytes]:
        """Return what makes a body, which begins as that of a plain request, ask another model; see `Task.asking`."""
        before, length = self.beginning(model), len(self._before)
        return lambda body: before + body[length:]

    def beginning(self, model: str | None) -> bytes:
        """Return the body of a plain request to this model, up to where its prompt stands."""
        return encode({"model": model, **self._layout})[: -len(b"null" + self._after)]

    def pack(self, requests: Sequence[Request]) -> Request:
        """Make one request of several rows, or of one; see `Task.pack`."""
        if self.rows_per_request == 1:
            (request,) = requests
            return request
        inputs = b",".join([request.body for request in requests])
        body = b"%b[%b]%b" % (self._before, inputs, self._after)
        return Request(body, b"null", len(body) // CHARACTERS_A_TOKEN)

    def unpack(self, body: bytes, rows: int) -> list[Answer | InvalidOutput]:
        """Read the body of a 2xx reply to a pack of so many rows; see `Task.unpack`."""
        if self.rows_per_request == 1:
            return [self.parse(body)]
        return self._unpack(body, rows)

    def again(self, request: Request, invalid: InvalidOutput) -> Request:  # noqa: ARG002 - see `Task.again`
        """Return the request as it was: without a schema no reply's content is invalid."""
        return msgspec.structs.replace(request)
