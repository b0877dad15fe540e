"""What the output formats' tests share: output lines as the store writes them, and sections joined in memory."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest

from rowmill.core.output_codec import OutputCodec
from rowmill.core.wire import Answer, Failure, FaultClass
from rowmill.store.output_lines import failure_line, result_line

_FAULT = FaultClass(
    "timeout", retryable=True, scope="row", spends_attempt=True, lowers_concurrency=True, unhealthy=True
)


class MemorySection(NamedTuple):
    """A section that lies in memory."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, count: int) -> bytes:
        return self.data[offset : offset + count]


def _joined(codec: OutputCodec, shards: Sequence[Sequence[bytes]]) -> bytes:
    join = codec.join()
    made = join.begin()
    for lines in shards:
        section = b"".join(piece + codec.end for piece in codec.encode(iter(lines)))
        assert section[-1:] in {b"", b"\n"}, "the footer behind a section is found by the newline before it"
        offset, count = join.add(MemorySection(section))
        made += section[offset : offset + count]
    return made + join.end()


def _result(index: int, output: bytes, *, row_id: bytes = b"null", include: bytes = b"") -> bytes:
    answer = Answer(output, b'"stop"', b'"m"', b'{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}', 3, 4)
    return result_line(index, row_id, answer, include)


def _failed(index: int, *, row_id: bytes = b"null", include: bytes = b"", **failure: Any) -> bytes:
    return failure_line(index, row_id, Failure(**{"fault": _FAULT, "message": "it took too long", **failure}), include)


@pytest.fixture(scope="session")
def joined() -> Callable[..., bytes]:
    """Make an output file out of the lines of shards: `joined(codec, [[line, line], [line]])`."""
    return _joined


@pytest.fixture(scope="session")
def result() -> Callable[..., bytes]:
    """Give the line of a row that has a result: `result(7, b'"text"', row_id=b'"a"', include=b',"input":{}')`."""
    return _result


@pytest.fixture(scope="session")
def failed() -> Callable[..., bytes]:
    """Give the line of a row that failed: `failed(7, status=500)`."""
    return _failed
