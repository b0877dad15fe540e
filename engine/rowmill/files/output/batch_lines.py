"""What OpenAI's Batch API answers: a line for each request, results in the output, failed requests in the errors file.

    {"id":"batch_req_7","custom_id":"...","response":{"status_code":200,"request_id":"req_7","body":{...}},"error":null}
    {"id":...,"custom_id":...,"response":{"status_code":400,"request_id":...,"body":{"error":{...}}},"error":null}
    {"id":...,"custom_id":...,"response":null,"error":{"code":"timeout","message":"..."}}

The second form is of requests that the server answered with an error, the third of all other failures, replies that
could not be used among them. `id` and `request_id` are made of the row's index. The id of a row is its custom_id; where
that is no text, "row-<index>" stands for it.
"""

from collections.abc import Iterable, Iterator

import msgspec

from rowmill.core.output_codec import OutputCodec
from rowmill.files.output.members import NULL, UNREADABLE, repaired

_QUOTE = ord('"')
_LEAST_ERROR = 300  # HTTP status from which on an answer is none


class _ResultRow(msgspec.Struct, gc=False):
    index: int
    id: msgspec.Raw
    output: msgspec.Raw


class _Failure(msgspec.Struct, gc=False, rename={"fault": "class"}):
    fault: msgspec.Raw
    code: msgspec.Raw
    status: int | None
    message: msgspec.Raw
    param: msgspec.Raw = msgspec.Raw(b"null")


class _FailedRequest(msgspec.Struct, gc=False):
    index: int
    id: msgspec.Raw
    error: _Failure


_decode_result = msgspec.json.Decoder(_ResultRow).decode
_decode_failed = msgspec.json.Decoder(_FailedRequest).decode


class BatchLines(OutputCodec):
    """The Batch API's lines. A row's output is the whole body of its reply."""

    key = "batch"

    def encode(self, lines: Iterator[bytes]) -> Iterable[bytes]:
        """Yield the lines of the rows that have a result."""
        for line in lines:
            try:
                row = _decode_result(line)
            except UNREADABLE:
                row = _decode_result(repaired(line))
            if row.output != NULL:
                yield (
                    b'{"id":"batch_req_%d","custom_id":%b,"response":{"status_code":200,"request_id":"req_%d","body":%b}'
                    b',"error":null}\n' % (row.index, _custom_id(row.id, row.index), row.index, row.output)
                )

    def failed(self, line: bytes, attempts: int) -> bytes:  # noqa: ARG002 - the Batch API does not tell of attempts
        """Return the line of a failed request."""
        try:
            row = _decode_failed(line)
        except UNREADABLE:
            row = _decode_failed(repaired(line))
        error = row.error
        head = b'{"id":"batch_req_%d","custom_id":%b,' % (row.index, _custom_id(row.id, row.index))
        if error.status is None or error.status < _LEAST_ERROR:
            return head + b'"response":null,"error":{"code":%b,"message":%b}}' % (error.fault, error.message)
        return head + (
            b'"response":{"status_code":%d,"request_id":"req_%d","body":{"error":'
            b'{"message":%b,"type":%b,"param":%b,"code":%b}}},"error":null}'
            % (error.status, row.index, error.message, error.fault, error.param, error.code)
        )


def _custom_id(row_id: msgspec.Raw, index: int) -> bytes:
    custom_id = bytes(row_id)
    return custom_id if custom_id[0] == _QUOTE else b'"row-%d"' % index
