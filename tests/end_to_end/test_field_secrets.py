"""Secrets and privacy among strangers: what a server says, who may read what a run leaves, what a cell can do."""

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from typing import Any

import pytest

from tests.end_to_end.batching import phases, seen
from tests.end_to_end.conftest import Arrival, Done, Place, Server

KEY = "sk-field-0123456789abcdef"
STEERING = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069]")
EVIL = (
    f"\x1b]0;owned\x07\u202e {KEY[:9]}\u200b{KEY[9:]} {KEY} \x9b2J\r\n{KEY[:9]}\n  {KEY[9:]} {KEY.upper()} "
    + "long " * 1000
)

Serve = Callable[..., Server]


def with_key(place: Place, url: str) -> None:
    place.configure(url)
    path = place.folder / "config.toml"
    path.write_text(path.read_text().replace('name = "main"', 'name = "main"\napi_key_env = "FIELD_KEY"'))
    place.environ["FIELD_KEY"] = KEY


def is_clean(place: Place, done: Done) -> None:
    """Hold that nothing that is shown or kept has the key, steers a terminal or is a server's whole page."""
    texts = {"stderr": done.err, "stdout": done.out}
    texts |= {str(path): path.read_text(errors="replace") for path in place.folder.rglob("*") if path.is_file()}
    for name, text in texts.items():
        assert KEY not in "".join(text.split()).lower(), name
        if name in ("stderr", "stdout") or name.endswith((".json", "run.log", ".errors.jsonl")):
            assert not STEERING.search(text), (name, STEERING.search(text))
            assert "\\u" not in text, name
        if name.endswith("run.log"):
            assert max(map(len, text.splitlines())) < 2000


def test_every_text_of_an_error_is_redacted_clipped_and_steers_nothing(place: Place, server: Serve) -> None:
    errors = dict(enumerate(product([400, 422, 500, 418], ["message", "code", "type", "param"]), 3))

    def decide(arrival: Arrival) -> tuple[int, dict[str, str], bytes] | None:
        if arrival.row not in errors:
            return None
        status, member = errors[arrival.row]
        error = {"message": "no", "type": "t", "code": None, member: EVIL}
        return status, {}, json.dumps({"error": error}).encode()

    with_key(place, server(decide).url)
    place.write_rows(40)
    done = place.run("--set", "retry.attempts=1")
    assert done.code == 1, done.err
    assert [(row["index"], row["status"]) for row in place.failed] == [(row, each[0]) for row, each in errors.items()]
    for row in place.failed:
        member = errors[row["index"]][1]
        shown = row["code" if member == "type" else member]
        assert "[redacted]" in shown, row["index"]
        assert len(shown.encode()) <= 1024, row["index"]
    is_clean(place, done)


@pytest.mark.parametrize("status", [401, 402, 403])
def test_what_ends_the_run_steers_no_terminal_either(place: Place, server: Serve, status: int) -> None:
    error = {"message": EVIL, "type": EVIL, "code": "insufficient_quota" if status == 402 else EVIL}
    with_key(place, server(lambda _: (status, {}, json.dumps({"error": error}).encode())).url)
    place.write_rows(10)
    done = place.run()
    assert done.code == 4, done.err
    assert "[redacted]" in done.err
    is_clean(place, done)


def test_secrets_are_known_in_base64_in_parameters_and_where_a_wrong_reply_is_quoted(
    place: Place, server: Serve
) -> None:
    basic = base64.b64encode(f"user:{KEY}".encode()).decode()
    secrets = [KEY, basic, basic.rstrip("="), f"user:{KEY}", base64.b64encode(KEY.encode()).decode(), "param-1234567"]

    def decide(arrival: Arrival) -> tuple[int, dict[str, str], bytes]:
        assert arrival.authorization == f"Basic {basic}"
        assert json.loads(arrival.body)["gateway"]["api_key"] == secrets[-1]
        if arrival.row == 0:
            return 400, {}, json.dumps({"error": {"message": " | ".join(secrets)}}).encode()
        content = json.dumps({"n": secrets if arrival.row == 1 else 1})
        return 200, {}, json.dumps({"choices": [{"message": {"content": content}}]}).encode()

    place.configure(server(decide).url)
    path = place.folder / "config.toml"
    text = path.read_text().replace('name = "main"', 'name = "main"\nheaders = { X-Api-Key = "static-7654321" }')
    text = text.replace("timeout_s", 'headers_env = { Authorization = "FIELD_BASIC" }\ntimeout_s')
    text += f'[task.params.gateway]\napi_key = "{secrets[-1]}"\n'
    path.write_text(text)
    place.environ["FIELD_BASIC"] = f"Basic {basic}"
    (place.folder / "schema.json").write_text('{"type":"object","properties":{"n":{"type":"integer"}}}')
    place.write_rows(3)
    keys = ("--set=task.schema=schema.json", "--set=retry.invalid_output=1")
    done = place.run(*keys)
    assert done.code == 1, done.err
    assert [row["class"] for row in place.failed] == ["invalid_request", "invalid_output"]
    assert place.failed[0]["message"].count("[redacted]") == len(secrets)
    kept = [place.log, done.err, *(row["message"] for row in place.failed)]
    kept += [(place.run_dir / name).read_text() for name in ("manifest.json", "report.json", "plan", "spending.json")]
    for each in kept:
        assert not [secret for secret in (*secrets, "static-7654321") if secret in each], each
    path.write_text(text.replace(secrets[-1], "another-key"))
    done = place.run(*keys)
    assert (done.code, "task.params" in done.err, "another-key" in done.err) == (5, True, False), done.err
    path.write_text(text)
    # A manifest of before has the key itself; the run is the same.
    manifest = place.run_dir / "manifest.json"
    manifest.write_text(re.sub(r"\[hidden [0-9a-f]+\]", secrets[-1], manifest.read_text()))
    assert place.run(*keys).code == 1


def test_a_key_that_a_good_answer_names_beside_its_content_is_not_kept(place: Place, server: Serve) -> None:
    """As its model, its reason to finish or in its usage; in the content it stays, for a row may be about it."""
    said: dict[int, dict[str, Any]] = {
        1: {"model": f"of-{KEY}"}, 2: {"model": KEY.upper()},
        3: {"model": "m-3", "usage": {"prompt_tokens": 7, "billed_to": KEY}},
        5: {"model": {"key": [KEY, 1]}},
    }  # fmt: skip

    def decide(arrival: Arrival) -> tuple[int, dict[str, str], bytes]:
        choice = {"message": {"content": f"about {arrival.row}"}, "finish_reason": "stop"}
        if arrival.row == 6:
            choice["finish_reason"] = KEY
        reply = {"model": "m-1", "choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
        return 200, {}, json.dumps(reply | said.get(arrival.row, {})).encode()

    with_key(place, server(decide).url)
    place.write_rows(8)
    done = place.run()
    assert done.code == 0, done.err
    is_clean(place, done)
    lines = place.lines
    assert [line["output"] for line in lines] == [f"about {row}" for row in range(8)]
    hidden = "[redacted]"
    assert [line["model"] for line in lines] == [
        "m-1", f"of-{hidden}", hidden, "m-3", "m-1", {"key": [hidden, 1]}, "m-1", "m-1",
    ]  # fmt: skip
    assert lines[3]["usage"] == {"prompt_tokens": 7, "billed_to": hidden}
    assert lines[6]["finish_reason"] == hidden
    assert place.report["sessions"][0]["providers"]["main"]["prompt_tokens"] == 7 + 7


class _BatchHandler(BaseHTTPRequestHandler):
    """A Batch API that says everything in bad words."""

    protocol_version = "HTTP/1.1"
    server: "BatchServer"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"] or 0))
        if self.path.endswith("/files"):
            self._say({"id": "file-1", "object": "file", "bytes": 1, "created_at": 1, "purpose": "batch"})
        else:
            self._say(self.server.batch)

    def do_GET(self) -> None:
        self._say(self.server.batch if self.path.endswith("/batch-1") else {"data": [], "has_more": False})

    def _say(self, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of what it overrides
        pass


class BatchServer(ThreadingHTTPServer):
    """Has one batch, which is what `batch` says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _BatchHandler)
        self.batch: dict[str, Any] = {"id": "batch-1", "status": "in_progress", "created_at": 1}
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


@pytest.fixture
def batch_server() -> Iterator[BatchServer]:
    server = BatchServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


BATCH = ("--set=task.mode=batch", "--set=batch.poll_s=0.05", "--set=batch.poll_max_s=0.1")


def test_a_batch_that_is_refused_tells_so_without_the_key(place: Place, batch_server: BatchServer) -> None:
    problem = {"code": EVIL, "message": EVIL, "line": None, "param": EVIL}
    batch_server.batch |= {"status": "failed", "errors": {"data": [problem]}}
    with_key(place, batch_server.url)
    place.write_rows(10)
    done = place.run(*BATCH)
    assert done.code == 4, done.err
    assert "[redacted]" in done.err
    is_clean(place, done)


def test_cancel_shows_a_status_of_the_server_without_what_steers(place: Place, batch_server: BatchServer) -> None:
    with_key(place, batch_server.url)
    place.write_rows(10)
    started = place.start(*BATCH)
    seen(lambda: phases(place) == {"created"}, "the batch")
    started.kill_all()
    batch_server.batch["status"] = EVIL
    done = place.start(*BATCH, command="cancel").wait()
    assert done.code == 0, done.err
    assert "part 0: batch batch-1 is ]0;owned" in done.err
    assert "[redacted]" in done.err
    is_clean(place, done)
