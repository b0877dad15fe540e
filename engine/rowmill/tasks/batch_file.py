"""OpenAI batch files run as they are: a row is `{"custom_id", "method", "url", "body"}`, and its body is the request.

The body goes out as it stands in the file, but for its model, where the configuration names one: a provider's model
wins over task.model, and that over the line's, so that a file written for one provider can be run against another.
As at OpenAI all lines are for one API, here the one of the first lines.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec

from rowmill.core.config import TaskConfig
from rowmill.core.config.sections import ReplyPart
from rowmill.core.errors import InputError, InvalidOutput, InvalidRow
from rowmill.core.wire import CONTENT, Answer, Request
from rowmill.tasks.api import Api
from rowmill.tasks.composed import tokens_of
from rowmill.tasks.readers import reader
from rowmill.tasks.rows import UNREADABLE, ColumnReader, encode, input_of, objects, tolerant

URLS = {f"/v1/{api.replace('.', '/')}": api for api in CONTENT}
_MEMBERS = ["custom_id", "method", "url", "body"]


class _BatchFileLine(msgspec.Struct, gc=False):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _BatchFileBody(msgspec.Struct, gc=False):
    stream: bool | None = None
    input: msgspec.Raw = msgspec.Raw(b"null")


_decode_line = msgspec.json.Decoder(_BatchFileLine).decode
_decode_body = msgspec.json.Decoder(_BatchFileBody).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_inputs = msgspec.json.Decoder(list[msgspec.Raw]).decode


def api_of(lines: Iterable[bytes], source: str) -> str:
    """Return the API that a batch file's first lines are for. Raises `InputError` where they are for none, or several.

    A run's configuration must have it as task.api: by it the provider's URL is made.
    """
    rows = objects(lines)
    urls = Counter(url for row in rows if isinstance(url := row.get("url"), str) and url in URLS)
    if not urls:
        shown = next((repr(row["url"]) for row in rows if "url" in row), "none at all")
        raise InputError(
            f"{source}: no line of a batch file for an API that can be run: the url is {shown}, "
            f"and must be one of {', '.join(URLS)}"
        )
    if len(urls) > 1:
        raise InputError(f"{source}: lines for {' and '.join(sorted(urls))}; split the file, one API in each")
    return URLS[next(iter(urls))]


def url_of(api: str) -> str:
    """Return the url of a batch file's lines for an API."""
    return next(url for url, name in URLS.items() if name == api)


class BatchTask:
    """Sends the bodies of a batch file and reads the replies as the API's own task does; see `Task`.

    The rows' ids are their custom_ids.
    """

    documents = None
    same_for_all = False  # each line is a request of its own
    rows_per_request = 1
    shared_tokens = 0
    reply_tokens = 0  # each line says its own

    def __init__(self, api: Api, config: TaskConfig, *, whole_reply: bool, parts: Sequence[ReplyPart] = ()) -> None:
        self.columns: list[str] | None = list(_MEMBERS)
        self._url = url_of(config.api)
        self._one_vector = config.api == "embeddings" and not whole_reply
        self._whole_reply = whole_reply
        self._set_model = None if config.model is None else self.asking(config.model)
        self.id_of: Callable[[bytes], bytes] = ColumnReader([], "custom_id").id_of
        self.input_of: Callable[[bytes], bytes] = input_of
        self.parse = reader(api, config, whole_reply=whole_reply, parts=parts)

    def build(self, line: bytes) -> Request:
        """Take the request out of a line. Raises `InvalidRow` with the reason."""
        try:
            if not line.isascii():
                line.decode()  # the body is passed on unread
            row = tolerant(_decode_line, line)
        except UNREADABLE as error:
            raise self._unreadable(line, error) from None
        if not row.custom_id:
            raise InvalidRow("custom_id is empty")
        if row.method != "POST":
            raise InvalidRow(f"method {row.method[:50]!r}: only POST can be run")
        if row.url != self._url:
            raise InvalidRow(f"url {row.url[:100]!r}: this run is for {self._url}, and a batch file has one url")
        body = bytes(row.body)
        if b'"extra_body"' in body:
            body = _with_extra(body)
        self._check_body(body)
        if self._set_model is not None:
            body = self._set_model(body)
        return Request(body, encode(row.custom_id), tokens_of(body))

    def pack(self, requests: Sequence[Request]) -> Request:
        """Return the one request."""
        (request,) = requests
        return request

    def unpack(self, body: bytes, rows: int) -> list[Answer | InvalidOutput]:
        """Read the reply to the one row."""
        assert rows == 1
        return [self.parse(body)]

    def again(self, request: Request, invalid: InvalidOutput) -> Request:  # noqa: ARG002 - see `Task.again`
        """Return the request as it was: no content is invalid here."""
        return request

    @staticmethod
    def asking(model: str) -> Callable[[bytes], bytes]:
        """Return what puts this model in the place of a body's own."""
        named = msgspec.Raw(encode(model))

        def ask(body: bytes) -> bytes:
            members = _decode_members(body)
            members.pop("model", None)
            return encode({"model": named, **members})

        return ask

    def check(self, lines: Iterable[bytes], source: str) -> None:
        """Refuse an input whose first lines are for another API, or for none. Raises `InputError`."""
        lines = list(lines)
        if not objects(lines):
            return
        if (api := api_of(lines, source)) != URLS[self._url]:
            raise InputError(f"{source}: the lines are for {api}, and the run is for {URLS[self._url]}")

    def _check_body(self, body: bytes) -> None:
        try:
            read = _decode_body(body)
        except UNREADABLE as error:
            raise InvalidRow(f"body: {error}") from None
        if read.stream:
            raise InvalidRow("body.stream: is set by provider.stream, for servers that only stream; remove it")
        if self._whole_reply:
            return
        if self._one_vector and _inputs(bytes(read.input)) > 1:
            raise InvalidRow('body.input: several texts in one line; split them, or set output.format = "batch"')

    @staticmethod
    def _unreadable(line: bytes, error: Exception) -> InvalidRow:
        try:
            ColumnReader([], None).read(line)
        except InvalidRow as reason:
            return reason  # broken, blank or no object
        return InvalidRow(f"no line of a batch file ({', '.join(_MEMBERS)}): {error}")


def _with_extra(body: bytes) -> bytes:
    """Return a body with the members of its `extra_body` on top: so the openai package would send it."""
    try:
        members = _decode_members(body)
        extra = _decode_members(members.pop("extra_body"))
        return encode({**members, **extra})
    except (*UNREADABLE, KeyError):
        return body  # it is somewhere else, or the server's to refuse


def _inputs(value: bytes) -> int:
    """Count the texts of an input of embeddings. A list of numbers is one text as tokens."""
    if value[:1] != b"[":
        return 1
    try:
        inputs = _decode_inputs(value)
    except UNREADABLE:
        return 1  # the server's to refuse
    return len(inputs) if inputs and bytes(inputs[0])[:1] in (b'"', b"[") else 1
