"""The benchmark: how figures come of samples, what its own server answers and counts, and what is left out."""

import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.benchmark import figures, peers
from scripts.benchmark.clients import CLIENTS
from scripts.benchmark.figures import Round
from scripts.benchmark.loads import LOADS, MEMORY, PLAIN, SLOW, TLS
from scripts.benchmark.measure import Sample, Usage
from scripts.benchmark.server import NGINX, OWN, NotInstalledError, chat_reply, serve

ROOT = Path(__file__).parents[2]
MB = 1_000_000


def script(*arguments: str, code: str | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-P", *(["-c", code] if code else ["-m", "scripts.benchmark"]), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def one_round(small: tuple[int, float, float], full: tuple[int, float, float], **more: Any) -> Round:
    """Return a round of two runs, each of so many rows, wall seconds and CPU seconds."""
    few, many = (Sample(rows, Usage(wall, cpu, cpu / 10)) for rows, wall, cpu in (small, full))
    if more:
        few, many = (
            each._replace(in_flight=more["in_flight"][at], usage=each.usage._replace(child_bytes=more["bytes"][at]))
            for at, each in enumerate((few, many))
        )
    return Round(few, many)


def test_the_steady_figures_are_those_of_the_rows_that_only_the_larger_run_had() -> None:
    found = one_round((100, 1.0, 0.5), (500, 3.0, 0.9)).figures()
    assert found["rows_per_s"] == pytest.approx(500 / 3)
    assert found["cpu_us_per_row"] == pytest.approx(1_800)
    assert found["steady_rows_per_s"] == pytest.approx(200)
    assert found["steady_cpu_us_per_row"] == pytest.approx(1_000)
    assert found["steady_first_cpu_us_per_row"] == pytest.approx(100)
    assert math.isnan(found["bytes_in_flight"])
    busy = one_round((100, 1.0, 0.5), (500, 0.9, 0.9)).figures()
    assert math.isnan(busy["steady_rows_per_s"])
    assert busy["steady_cpu_us_per_row"] == pytest.approx(1_000), "CPU can be told where time cannot"
    rounds = [one_round((100, 1.0, 0.5), (500, end, 0.9)) for end in (0.9, 3.0, 5.0, 2.0)]
    assert figures.medians(rounds)["steady_rows_per_s"] == pytest.approx(200), "of those that could be told"


@pytest.mark.parametrize(
    ("in_flight", "bytes_", "per_request"),
    [((1_000, 10_000), (50 * MB, 140 * MB), 10_000.0), ((500, 500), (50 * MB, 60 * MB), None)],
)
def test_a_request_in_flight_takes_what_a_process_has_more_with_many_more_of_them(
    in_flight: tuple[int, int], bytes_: tuple[int, int], per_request: float | None
) -> None:
    made = one_round((10, 1.0, 0.5), (20, 2.0, 0.9), in_flight=in_flight, bytes=bytes_)
    assert math.isnan(made.figures()["bytes_in_flight"]), "the rows that it has more may be what it is"
    found = made._replace(grows=True).figures()
    assert math.isnan(found["steady_rows_per_s"])
    assert (None if math.isnan(found["bytes_in_flight"]) else found["bytes_in_flight"]) == per_request
    assert found["child_mb"] == bytes_[1] / MB


def test_tables_have_each_load_that_was_measured_and_compare_within_it() -> None:
    ours, theirs = one_round((10, 1.0, 0.1), (110, 2.0, 0.2)), one_round((10, 1.0, 0.1), (110, 2.0, 0.6))
    slow = one_round((10, 1.0, 0.1), (110, 2.0, 0.2), in_flight=(4_000, 4_000), bytes=(50 * MB, 60 * MB))
    results = {"tls/direct": [ours, ours], "tls/gather": [theirs, theirs], "slow/direct": [slow], "plain/wrk": []}
    text = figures.tables(results, {TLS.name: NGINX, SLOW.name: OWN})
    first, second = text.split("\n\n")
    assert first.startswith("tls: the same through TLS (nginx)\n")
    assert re.search(r"^AsyncOpenAI, .* 5,000\.0 +5\.00$", first, re.MULTILINE)
    assert re.search(r"^rowmill run, direct .* 1,000\.0 +1\.00$", first, re.MULTILINE)
    assert re.search(r"^rowmill run, direct +4,000 +100\.00 +10\.0% +- +60 +-$", second, re.MULTILINE)
    whole = json.loads(json.dumps(figures.as_json(results), allow_nan=False))
    assert whole["ways"]["tls/gather"]["median"]["steady_cpu_us_per_row"] == pytest.approx(5_000)
    assert whole["ways"]["tls/gather"]["median"]["bytes_in_flight"] is None
    assert "plain/wrk" not in whole["ways"]


@pytest.mark.parametrize(
    ("said", "clients"),
    [
        ("gather,direct", ["plain/gather", "plain/direct"]),
        ("workers,tls/direct", ["tls/direct", "workers/direct", "workers/many"]),
    ],
)
def test_what_is_named_is_a_load_or_a_way_of_one(said: str, clients: list[str]) -> None:
    from scripts.benchmark import __main__ as benchmark

    assert [client.name for client in benchmark.named(said)] == clients


def test_a_name_that_is_not_there_is_refused_before_anything_is_done() -> None:
    done = script("--only", "tls,slow/none")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("unknown: slow/none\n")


def test_help_and_the_page_about_benchmarks_name_all_loads() -> None:
    done = script("--help")
    assert done.returncode == 0
    assert re.findall(r"^  ([a-z]+) +[a-z]", done.stdout.partition("loads and their ways:")[2], re.MULTILINE) == [
        load.name for load in LOADS
    ]
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    table = page.partition("## The loads")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([a-z]+)` \|", table, re.MULTILINE) == [load.name for load in LOADS]
    assert len({client.name for client in CLIENTS}) == len(CLIENTS)


def test_our_own_server_waits_answers_in_order_and_tells_how_many_were_in_flight(tmp_path: Path) -> None:
    load = SLOW._replace(delay_ms=50, reply_bytes=500)
    body = b'{"model":"m"}'
    post = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    with serve(tmp_path, min(os.sched_getaffinity(0)), load) as server:
        assert server.most_in_flight() == 1  # the one that found it ready
        at = re.findall(r"//(.+):(\d+)/", server.url)[0]
        with socket.create_connection((at[0], int(at[1])), timeout=30) as client, client.makefile("rb") as replies:
            client.sendall(post * 3)
            for _ in range(3):
                head = b"".join(iter(replies.readline, b"\r\n")).lower()
                assert b"content-length: 500\r\n" in head
                assert json.loads(replies.read(500))["choices"][0]["message"]["content"]
            client.sendall(b"no request\r\n\r\n")
            assert replies.read() == b""
        assert (server.most_in_flight(), server.most_in_flight()) == (3, 0)


@pytest.mark.parametrize("name", [NGINX, OWN])
def test_a_server_with_tls_is_trusted_by_its_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == OWN:
        monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    elif not Path("/usr/sbin/nginx").exists():
        pytest.skip("nginx is not installed")
    with serve(tmp_path, min(os.sched_getaffinity(0)), TLS) as server:  # it has answered when the block begins
        assert server.name == name
        assert server.url.startswith("https://")
        assert server.authority


@pytest.mark.parametrize("size", [700, 2048])
def test_a_reply_has_the_size_that_is_asked_for(size: int) -> None:
    assert len(chat_reply(size)) == size
    assert json.loads(chat_reply(size))["choices"][0]["finish_reason"] == "stop"


# Burns 0.2 s, and leaves a process behind that does the same in a session of its own.
_BURNING = """
import subprocess, sys, time
if len(sys.argv) == 1:
    subprocess.Popen([*sys.orig_argv, "left"], start_new_session=True)
while time.process_time() < 0.2:
    pass
"""

_MEASURING = """
import json, os, sys
from pathlib import Path
from scripts.benchmark import measure
measure.adopt_orphans()
code, log = sys.argv[1:]
core = min(os.sched_getaffinity(0))
usage = measure.run([sys.executable, "-c", code], {}, Path(log), core, watched=True)
try:
    measure.run([sys.executable, "-c", "raise SystemExit('it is broken')"], {}, Path(log), core)
except measure.ClientError as error:
    print(json.dumps([usage._asdict(), str(error), len(measure.children())]))
"""


def test_what_a_client_leaves_running_counts_with_it(tmp_path: Path) -> None:
    done = script(_BURNING, str(tmp_path / "log"), code=_MEASURING)
    assert done.stderr == ""
    usage, said, left = json.loads(done.stdout)
    assert usage["cpu_s"] >= 0.4
    told = 0.02  # so much less, for user and system time are told in hundredths of a second
    assert 0.2 - told <= usage["first_cpu_s"] <= usage["cpu_s"] - 0.2
    assert said == "exit code 1: it is broken"
    assert left == 0


def test_tools_that_are_not_installed_are_a_line_and_no_error(tmp_path: Path) -> None:
    with pytest.raises(NotInstalledError, match=r"^daft\[openai\].* is not installed: scripts/bench --install-peers$"):
        peers.PEERS["daft"].check(tmp_path)
    report = tmp_path / "report.json"
    done = script(
        *("--only", "peers/curator,tls/direct,tls/bare-own", "--peers", str(tmp_path), "--repeat", "1"),
        *("--rows-scale", "0.0001", "--json", str(report)),
    )
    assert done.returncode == 0, done.stderr
    assert "peers/curator: not measured, bespokelabs-curator>=" in done.stdout
    assert re.search(r"^tls: .*\n.*\n.*\nrowmill's own .* 40 .*\nrowmill run, direct +40 ", done.stdout, re.MULTILINE)
    measured = json.loads(report.read_text())
    assert list(measured["ways"]) == ["tls/bare-own", "tls/direct"]
    assert list(measured["not_measured"]) == ["peers/curator"]


def test_a_tool_is_installed_anew_where_its_range_is_another(tmp_path: Path) -> None:
    peer = peers.PEERS["litellm"]
    assert peer.environment == peers.PEERS["litellm-batch"].environment
    folder = tmp_path / peer.environment
    folder.mkdir()
    (folder / "installed").write_text("\n".join(peer.requirements))
    peer.check(tmp_path)
    with pytest.raises(NotInstalledError):
        peer._replace(requirements=("litellm>=2",)).check(tmp_path)


def test_only_a_load_that_grows_has_less_in_flight_in_its_smaller_run() -> None:
    assert MEMORY.smaller().in_flight == 1_000
    assert PLAIN.smaller() == PLAIN
