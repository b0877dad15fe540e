"""What is read out of a trial's checkpoints."""

from pathlib import Path

from rowmill.runs.plan.trials import _usage
from rowmill.store.framing import framed


def row(index: int, requests: int, usage: str) -> bytes:
    head = b'"attempts":1,"requests":%d,"ms":1,"provider":"p","failed":false,"usage":%b' % (requests, usage.encode())
    return framed(b'{"row":%d,%b,"line":{"usage":null,"line":1}}' % (index, head))


def test_rows_that_were_asked_have_their_tokens_and_the_last_record_of_a_row_counts(tmp_path: Path) -> None:
    path = tmp_path / "000000.checkpoint"
    path.write_bytes(
        framed(b'{"rowmill":2,"shard":[0,0,5,0,9,0,0]}')
        + row(0, 1, "[10,3]")
        + row(1, 1, "[0,0]")  # refused: it cost nothing
        + row(2, 0, "[0,0]")  # the reply to another row answered it
        + row(3, 0, "[4,1]")  # the second of a pack
        + framed(b'{"reply":4,"requests":1,"usage":[9,9],"problem":"x","output":"y"}')
        + framed(b'{"retry":1}')
        + row(1, 2, "[11,4]")
        + b"torn"
    )
    assert _usage(path) == {0: (10, 3), 1: (11, 4), 3: (4, 1)}
