"""The metrics of a run, as a real Prometheus and a collector have them: exactly what report.json says in the end."""

import re
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from rowmill.metrics.catalogue import FAMILIES
from scripts.ports import kept_port
from tests.end_to_end.collectors import Collector, Prometheus, collector, fetched, needs, points, prometheus
from tests.end_to_end.conftest import Arrival, Place, Server, until
from tests.end_to_end.several import error

SECRETS = {
    "key": "sk-planted-key-1",
    "header": "planted-header-2",
    "query": "planted-query-3",
    "push": "planted-push-4",
}
REFUSED, LIMITED, BROKEN, ROWS = range(3), range(10, 14), range(20, 25), 240
_PROVIDER = """
[[provider]]
name = "{name}"
base_url = "{url}?api-key={query}"
timeout_s = 5
api_key_env = "PLANTED_KEY"
headers_env = {{ x-token = "PLANTED_HEADER" }}
"""
_MORE = """
[prices]
"sim-small" = {{ input = 1, cached_input = 0.5, output = 2 }}
[budget]
max_usd = 100
[metrics]
port = {port}
linger_s = 60
otlp = "{otlp}"
headers_env = {{ authorization = "PLANTED_PUSH" }}
[notify]
command = ["touch", "{told}"]
"""
_DURATION = "gen_ai_client_operation_duration_seconds"


def echoing(arrival: Arrival) -> tuple[int, dict[str, str], bytes] | None:
    """Refuse some rows, with all that the server knows of secrets; limit and break some requests."""
    said = " ".join(SECRETS.values())
    if arrival.row in REFUSED:
        return 400, {}, error(said, said, said)
    if arrival.row in LIMITED and arrival.nth == 1:
        return 429, {"retry-after": "0"}, error(said, "rate_limit")
    if arrival.row in BROKEN and arrival.nth == 1:
        return 500, {}, error(said, "server_error")
    return None


def configure(place: Place, url: str, port: int, otlp: str) -> None:
    place.configure(url)
    path = place.folder / "config.toml"
    before, _, after = path.read_text().partition("[[provider]]")
    providers = "".join(_PROVIDER.format(name=name, url=url, query=SECRETS["query"]) for name in ("main", "spare"))
    path.write_text(
        before
        + providers
        + after[after.index("[workers]") :]
        + _MORE.format(port=port, otlp=otlp, told=place.folder / "told")
    )
    place.environ |= {
        "PLANTED_KEY": SECRETS["key"],
        "PLANTED_HEADER": SECRETS["header"],
        "PLANTED_PUSH": SECRETS["push"],
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        "OTEL_METRIC_EXPORT_INTERVAL": "100",
    }


def by(label: str, values: dict[Any, float]) -> dict[str, float]:
    return {dict(labels)[label]: value for labels, value in values.items()}


def test_a_prometheus_and_a_collector_have_what_the_report_says(place: Place, server: Callable[..., Server]) -> None:
    asked = server(echoing)
    port, own = kept_port(), kept_port()
    with (
        collector() as collected,
        prometheus(place.folder / "prometheus", own, port) as seen,
    ):
        configure(place, asked.url, port, collected.url)
        place.write_rows(ROWS)
        asked.hold(60)
        started = place.start()
        until(lambda: sum(seen.last("rowmill_rows_total").values()), "rows that Prometheus has seen")
        asked.go_on()
        until(lambda: seen.last("rowmill_session_ended") == {(): 1.0}, "the last scrape")
        url = f"http://127.0.0.1:{port}/metrics"
        texts = [fetched(url), fetched(url, Accept="application/openmetrics-text; version=1.0.0")]
        report = place.report
        is_what_prometheus_has(report, seen)
        assert report["sessions"][0]["counters"]["requests"] == len(asked.arrivals)
        until((place.folder / "told").exists, "who is to hear of the end, before the last scrape is waited for")
        until((place.run_dir / "report.html").exists, "the page of the run")
        started.signal(signal.SIGINT)  # who does not want to wait ends the lingering, and nothing else
        done = started.wait()
        assert done.code == 1, done.err
    is_what_was_pushed(report, collected)
    checked = subprocess.run(
        [needs("promtool"), "check", "metrics"], input=texts[0], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    assert texts[1].endswith("# EOF\n")
    assert f"# UNIT {_DURATION} seconds" in texts[1]
    texts += [body.decode("latin-1") for _, _, body in collected.pushed]
    assert len(texts) > 3
    for text in texts:
        assert not [secret for secret in SECRETS.values() if secret in text]
        assert not re.search(r"127\.0\.0\.1|row 0000", text)


def is_what_prometheus_has(report: dict[str, Any], seen: Prometheus) -> None:
    (session,) = report["sessions"]
    totals, counters = report["totals"], session["counters"]
    assert (totals["rows"], totals["failed"]) == (ROWS, len(REFUSED))

    # What the run has come to
    assert by("outcome", seen.last("rowmill_run_rows")) == {"answered": ROWS - len(REFUSED), "failed": len(REFUSED)}
    assert seen.value("rowmill_run_requests") == totals["requests"]
    assert by("gen_ai_token_type", seen.last("rowmill_run_tokens")) == {
        "input": totals["prompt_tokens"],
        "output": totals["completion_tokens"],
    }
    assert seen.value("rowmill_run_input_rows") == report["rows"]
    assert seen.value("rowmill_run_finished") == 1
    assert seen.value("rowmill_session_exit_code") == 1
    assert sum(seen.last("rowmill_run_cost_usd").values()) == pytest.approx(report["cost"]["usd"])
    assert seen.value("rowmill_budget_usd") == report["cost"]["max_usd"]
    assert by("error_type", seen.last("rowmill_run_failed_rows")) == report["failures"]

    # What the session has counted
    assert by("outcome", seen.last("rowmill_rows_total")) == {
        "answered": counters["rows"] - counters["failed"],
        "failed": counters["failed"],
    }
    assert counters["failed"] == len(REFUSED)
    assert sum(seen.last("rowmill_requests_total").values()) == counters["requests"]
    assert seen.value("rowmill_retries_total") == counters["retries"]
    faults = by("error_type", seen.last("rowmill_faults_total"))
    assert {name: count for name, count in faults.items() if count} == counters["faults"]
    assert len(faults) > len(counters["faults"]), "also those of which there was none: the first one is a rise"
    for name, figures in session["providers"].items():
        assert seen.value("rowmill_requests_total", provider=name) == figures["requests"]
        assert seen.value("rowmill_requests_limited_total", provider=name) == figures["limited"]
        assert seen.value(f"{_DURATION}_count", provider=name) == figures["answered"]
        assert seen.value(f"{_DURATION}_bucket", provider=name, le="+Inf") == figures["answered"]
        mean = seen.value(f"{_DURATION}_sum", provider=name) / figures["answered"]
        assert mean == pytest.approx(figures["mean_reply_s"], abs=0.002)
        for kind, field in (("input", "prompt_tokens"), ("output", "completion_tokens")):
            tokens = {"provider": name, "gen_ai_token_type": kind}
            assert seen.value("rowmill_tokens_total", **tokens) == figures[field]
            assert seen.value("gen_ai_client_token_usage_sum", **tokens) == figures[field]

    histories = seen.history('{__name__=~"(rowmill|gen_ai)_.+_(total|count|sum|bucket)"}')
    assert len(histories) > 100
    for name, values in histories.items():
        assert values == sorted(values), name


def is_what_was_pushed(report: dict[str, Any], collected: Collector) -> None:
    (session,) = report["sessions"]
    route, headers, _ = collected.pushed[-1]
    assert (route, headers["authorization"]) == ("/v1/metrics", SECRETS["push"])
    (resource,) = collected.last.resource_metrics
    about = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert about["service.name"] == "rowmill"
    assert (about["rowmill.run"], about["rowmill.input"]) == (report["run"], "in.jsonl")
    assert about["deployment.environment.name"] == "test"
    pushed = collected.metrics()
    assert by("outcome", points(pushed["rowmill.run.rows"])) == {
        "answered": ROWS - len(REFUSED),
        "failed": len(REFUSED),
    }
    assert pushed["rowmill.requests"].sum.is_monotonic
    assert by("provider", points(pushed["rowmill.requests"])) == {
        name: figures["requests"] for name, figures in session["providers"].items()
    }
    durations = points(pushed["gen_ai.client.operation.duration"])
    assert {dict(labels)["provider"]: point.count for labels, point in durations.items()} == {
        name: figures["answered"] for name, figures in session["providers"].items()
    }
    assert all(sum(point.bucket_counts) == point.count for point in durations.values())
    assert {metric.name: metric.unit for metric in pushed.values()}.items() <= {
        family.name: family.unit for family in FAMILIES
    }.items()
