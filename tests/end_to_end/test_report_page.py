"""`rowmill report`: what a run went through is in its page, while it is at work, after a kill, and at its end."""

import json
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rowmill.store.series import read
from tests.end_to_end.conftest import Arrival, Place, Server, Witness, until
from tests.end_to_end.several import Answer, configure, fail, heard, url_of

_FACTS = re.compile(r'<script type="application/json" id="facts">(.*?)</script>', re.DOTALL)
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def facts_in(page: Path) -> Any:
    (facts,) = _FACTS.findall(page.read_text(encoding="utf-8"))
    return json.loads(facts)


def answered(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    try:
        with _direct.open(urllib.request.Request(url, headers=headers), timeout=10) as reply:
            return reply.status, dict(reply.headers), reply.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, dict(refused.headers), refused.read()


def facts_at(url: str) -> Any:
    return json.loads(answered(f"{url}facts.json")[2])


def served(url: str) -> Any:
    """Hold that this address has the page and its document, for who means this address, and nothing else."""
    status, headers, page = answered(url)
    assert (status, headers["Content-Type"], b"<title>Rowmill" in page) == (200, "text/html; charset=utf-8", True)
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'sha256-")
    assert headers["Content-Security-Policy"].endswith("; frame-ancestors 'none'")
    for path, own, expected in (
        ("", {"Host": "evil.example"}, 421),
        ("facts.json", {"Host": "evil.example:80"}, 421),
        ("facts.json", {"Host": "localhost.evil.example:80"}, 421),
        ("facts.json", {"Host": "localhost:80@evil.example"}, 421),
        ("facts.json", {"Host": "LOCALHOST:9000"}, 200),  # through a tunnel
        ("facts.json", {"Host": "[::1]:9000"}, 200),
        ("facts.json", {"Host": "localhost"}, 200),  # of port 80
        ("../../etc/passwd", {}, 404),
        ("page.js", {}, 404),
    ):
        assert answered(url + path, **own)[0] == expected, path
    with _direct.open(urllib.request.Request(url, method="HEAD"), timeout=10) as head:
        assert (int(head.headers["Content-Length"]) > 100_000, head.read()) == (True, b"")
    return facts_at(url)


def test_an_outage_a_kill_and_a_cap_are_marked_and_the_page_follows_the_run(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    witness = simulator(latency_ms=20)
    providers: list[dict[str, Any]] = [{"name": name, "base_url": url_of(witness, name)} for name in ("main", "sick")]
    providers[0]["requests_per_minute"] = 6_000  # so that it is at work for as long as anybody looks
    configure(place, providers, prices={"sim-small": {"input": 1.0, "output": 4.0}}, workers={"concurrency": 4})
    place.write_rows(1_500)
    assert (none := place.start(command="report").wait(20)).code == 5, none.err
    fail(witness, "sick", "500")
    started = place.start()
    series = place.run_dir / "series.jsonl"
    until(lambda: any(each.providers["sick"].state == "failing" for each in read(series)), "a second of the outage")
    live = place.start("--live", command="report")
    heard(live, "is at work; its page is served")
    assert live.process.stdout is not None
    url = live.process.stdout.readline().strip()
    facts = served(url)
    assert (facts["live"], facts["run"]["state"]) == (True, "running")
    assert 0 < facts["totals"]["done"] < 1_500
    started.signal(signal.SIGKILL)
    started.wait()
    assert not (place.run_dir / "report.html").exists(), "who only looks writes nothing"
    heard(live, "has ended")
    until(lambda: not facts_at(url)["live"], "the last figures")
    facts = facts_at(url)
    assert (facts["live"], facts["run"]["state"]) == (False, "killed")
    live.signal(signal.SIGINT)
    assert live.wait(10).code == 0

    fail(witness, "sick", None)
    stopped = place.run("--set", f"budget.max_requests={facts['totals']['requests'] + 60}")
    assert stopped.code == 3, stopped.err
    assert f"  report   {place.run_dir.name}/report.html" in stopped.lines
    facts = facts_in(place.run_dir / "report.html")
    kinds = [mark["kind"] for mark in facts["marks"] if mark["kind"] not in ("note", "hold")]
    assert [kind for kind in kinds if kind != "outage"] == ["start", "kill", "resume", "cap"]
    assert "outage" in kinds
    assert {mark["provider"] for mark in facts["marks"] if mark["kind"] == "outage"} == {"sick"}
    assert (facts["run"]["state"], [each["state"] for each in facts["sessions"]]) == ("stopped", ["killed", "stopped"])
    report, totals, timeline = place.report, facts["totals"], facts["timeline"]
    # The session that was stopped has not opened every shard in which the killed one had recorded rows.
    assert totals["done"] == len(place.recorded()) >= report["totals"]["rows"]
    assert totals["failed"] == report["totals"]["failed"]
    assert totals["requests"] == sum(each["counters"]["requests"] for each in report["sessions"])
    assert facts["cost"]["usd"] == report["cost"]["usd"]
    places = [at for at, session in enumerate(timeline["session"]) if session == 1]
    for name in ("rows", "requests"):
        assert sum(timeline[name][at] for at in places) == report["sessions"][1]["counters"][name]
    assert 0 < len(facts["replies"]) == sum(each["prompt"] is not None for each in facts["replies"])
    asked_later = json.loads(place.start("--json", command="report").wait(20).out)
    assert asked_later["marks"] == facts["marks"]


def test_rows_and_errors_of_strangers_stay_text_and_secrets_stay_out_of_it(
    place: Place, server: Callable[..., Server]
) -> None:
    secret, echoed = "sk-InTheHeader99", "sk-FromTheServer1"
    hostile = "</script><script>alert(1)</script>"

    def decide(arrival: Arrival) -> Answer | None:
        if arrival.row == 1:
            return 400, {}, json.dumps({"error": {"message": f"no {secret} {echoed} {hostile}", "code": "x"}}).encode()
        return None

    witness = server(decide)
    provider = {"name": "main", "base_url": f"{witness.url}?api-key={secret}", "headers": {"x-token": secret}}
    configure(place, [{**provider, "api_key_env": "OWN_KEY"}], output={"path": "out.csv"})
    place.environ["OWN_KEY"] = echoed
    texts = ["row 000000: \u202e\x1b[31m", f"row 000001: {hostile}", "row 000002: \u2028"]
    place.write_lines(json.dumps({"id": at, "text": text}).encode() + b"\n" for at, text in enumerate(texts))
    done = place.run("-q")
    assert (done.code, done.out, done.err) == (1, "", "")
    page = place.folder / "out.csv.run" / "report.html"
    assert page.stat().st_mode & 0o777 == 0o600
    whole = page.read_text(encoding="utf-8")
    assert "<script>alert" not in whole
    facts = facts_in(page)
    (failure,) = facts["failures"]
    assert hostile in failure["examples"][0]["message"]
    assert hostile in failure["examples"][0]["input"]
    asked = place.start("-o", "own.html", command="report").wait(20)
    assert (asked.code, asked.err) == (0, "rowmill: the report is in own.html\n")
    for text in (whole, (place.folder / "own.html").read_text(encoding="utf-8")):
        assert secret not in text
        assert echoed not in text
    given = place.start("--output", "-", command="report").wait(20)
    assert given.out.startswith("<!doctype html>")
    nowhere = place.start("-o", "no/where.html", command="report").wait(20)
    assert (nowhere.code, nowhere.err) == (
        6,
        "rowmill: no/where.html cannot be written: No such file or directory; name another file by --output\n",
    )
    page.unlink()
    page.mkdir()
    place.retry()
    assert "the page of the report was not made: " in (place.folder / "out.csv.run" / "run.log").read_text()
