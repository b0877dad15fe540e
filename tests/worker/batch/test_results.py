"""RequestResult files as providers write them, and as they do not."""

import asyncio
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import uvloop

from rowmill.transport.reply_size import LONGEST
from rowmill.worker.batch.results import RequestResult, Results
from tests.worker.batch.run_on_disk import answered, refused, unasked, written


@contextmanager
def opened(*paths: Path) -> Iterator[Results]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        reading = Results.read(paths)
        yield runner.run(enter(reading))
        runner.run(leave(reading))


async def enter(reading: AbstractAsyncContextManager[Results]) -> Results:
    return await reading.__aenter__()


async def leave(reading: AbstractAsyncContextManager[Results]) -> None:
    await reading.__aexit__(None, None, None)


def read(tmp_path: Path, *lines: object) -> AbstractContextManager[Results]:
    return opened(written(tmp_path / "output", lines))


def test_results_are_found_by_id_in_whatever_order_and_file(tmp_path: Path) -> None:
    output = written(tmp_path / "output", [answered("r2", {"n": 2}), answered("r0", {"n": 0})])
    errors = written(tmp_path / "errors", [refused("r3", 400, "bad"), unasked("r1")])
    with opened(errors, output) as results:
        assert sorted(results) == ["r0", "r1", "r2", "r3"]
        assert len(results) == 4
        assert results["r0"] == RequestResult(200, b'{"n": 0}')
        assert results["r2"] == RequestResult(200, b'{"n": 2}')
        found = results["r3"]
        assert (found.status, json.loads(found.body)["error"]["message"]) == (400, "bad")
        with pytest.raises(KeyError):
            results["r4"]


def test_results_with_a_few_broken_bytes_are_not_asked_for_again(tmp_path: Path) -> None:
    whole = b'{"custom_id":"%b","response":{"status_code":200,"body":{"a":%b}},"error":null}'
    bodies = [b'"\\ud83d"', b"NaN", b'"\xff"', b'"\t"']
    lines = [whole % (b"r%d" % number, body) for number, body in enumerate(bodies)]
    with read(tmp_path, b"\xef\xbb\xbf" + lines[0], *lines[1:]) as results:
        assert [json.loads(results[f"r{n}"].body)["a"] for n in range(4)] == ["\ufffd", None, "\ufffd", "\t"]


@pytest.mark.parametrize("code", ["batch_expired", "batch_cancelled"])
def test_requests_that_were_never_made_are_told_apart(tmp_path: Path, code: str) -> None:
    with read(tmp_path, unasked("r0", code), unasked("r1", "request_timeout")) as results:
        expired, failed = results["r0"], results["r1"]
        assert (expired.unasked, expired.ok, expired.status, expired.code) == (True, False, 0, code)
        assert (failed.unasked, failed.code) == (False, "request_timeout")


@pytest.mark.parametrize(
    ("rest", "result"),
    [
        ('"response": null', RequestResult(0, b"")),
        ('"response": null, "error": null', RequestResult(0, b"")),
        ('"response": {"status_code": 0, "body": null}', RequestResult(0, b"")),
        ('"response": {"status_code": null}', RequestResult(0, b"")),
        ('"response": {"status_code": 200}', RequestResult(200, b"")),
        ('"response": {"status_code": "200", "body": {"a":  1}}', RequestResult(200, b'{"a":  1}')),
        (r'"response": {"status_code": 200, "body": "{\"a\":1}"}', RequestResult(200, b'{"a":1}')),
        ('"response": null, "error": "it broke"', RequestResult(0, b"", None, "it broke")),
        ('"response": null, "error": {"code": 500, "message": null}', RequestResult(0, b"", "500", None)),
        ('"response": null, "error": {"code": "x", "more": {}}', RequestResult(0, b"", "x", None)),
    ],
)
def test_what_has_no_reply_is_a_result_all_the_same(tmp_path: Path, rest: str, result: RequestResult) -> None:
    with read(tmp_path, b'{"custom_id": "r0", %b}' % rest.encode()) as results:
        assert results["r0"] == result


def test_a_result_whose_inside_is_broken_is_no_reply(tmp_path: Path) -> None:
    with read(tmp_path, b'{"custom_id": "r0", "response": {"status_code": 200}, "error": [1]}') as results:
        found = results["r0"]
        assert found.status == 0
        assert "cannot be read" in str(found.message)


def test_lines_that_are_no_results_are_passed_over(tmp_path: Path) -> None:
    broken = [b"<html>", b'{"custom_id": ""}', b'{"id": 1}', b'{"custom_id": 7}', b"[]", b'{"custom_id": "r1", "resp']
    with read(tmp_path, answered("r0", {}), b"", b" \r", *broken) as results:
        assert list(results) == ["r0"]
        assert repr(results) == "<Results of 1 requests>"


@pytest.mark.parametrize("turn", [1, -1])
def test_of_two_results_for_one_request_the_answer_counts(tmp_path: Path, turn: int) -> None:
    with read(tmp_path, *[refused("r0", 500), answered("r0", {"n": 1})][::turn], refused("r0", 400)) as results:
        found = results["r0"]
        assert found.ok
    with read(tmp_path, *[answered("r0", {"n": 1}), answered("r0", {"n": 2})][::turn]) as results:
        assert results["r0"] == RequestResult(200, b'{"n": 1}' if turn == 1 else b'{"n": 2}')


def test_lines_may_be_longer_than_a_block_and_the_last_without_a_newline(tmp_path: Path) -> None:
    long = "x" * (3 << 20)
    data = b"\r\n".join(
        json.dumps(answered(f"r{n}", {"text": text})).encode() for n, text in enumerate(["a", long, "b"])
    )
    (tmp_path / "output").write_bytes(data)
    with opened(tmp_path / "output") as results:
        bodies = [results[f"r{n}"] for n in range(3)]
        assert [json.loads(body.body)["text"] for body in bodies] == ["a", long, "b"]


def test_a_line_longer_than_a_reply_may_be_is_a_result_that_says_so(tmp_path: Path) -> None:
    long = json.dumps(answered("r1", {"text": "@"})).encode().replace(b"@", b"y" * (LONGEST + 1))
    path = tmp_path / "output"
    path.write_bytes(
        b"\n".join([json.dumps(answered("r0", {})).encode(), long, json.dumps(answered("r2", {})).encode()])
    )
    with opened(path) as results:
        assert list(results) == ["r0", "r1", "r2"]
        assert (results["r0"].status, results["r2"].status) == (200, 200)
        assert (results["r1"].status, results["r1"].ok, results["r1"].body) == (0, False, b"")
        assert "64 MiB, more than the 64 that a reply may have" in (results["r1"].message or "")


def test_memory_holds_places_and_no_lines(tmp_path: Path) -> None:
    """20 MB of results."""
    body = {"text": "x" * 5000}
    path = written(tmp_path / "output", (answered(f"r{n}", body) for n in range(4000)))
    tracemalloc.start()
    try:
        with opened(path) as results:
            assert len(results) == 4000
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 << 20


def test_no_file_is_no_result() -> None:
    with opened() as results:
        assert len(results) == 0
        assert list(results) == []
