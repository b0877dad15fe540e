"""Metrics are of a run that asks for them; what they are of shows no path, no URL and no password."""

import subprocess
import sys

import pytest

from rowmill.runs import metered


def test_a_run_without_metrics_loads_nothing_of_them() -> None:
    code = """
import sys
from types import SimpleNamespace
import rowmill.interface.cli, rowmill.runs.session
from rowmill.core.config.sections import MetricsConfig
from rowmill.runs.metered import metered
off = SimpleNamespace(config=SimpleNamespace(metrics=MetricsConfig()))
with metered(off, {}, print) as monitoring:
    assert monitoring is None
names = ("rowmill.metrics", "rowmill.transport.faults", "prometheus_client", "opentelemetry", "http.server")
print([name for name in sys.modules if name.startswith(names)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("data/in.jsonl", "in.jsonl"),
        ("/home/somebody/rows/", "rows"),
        ("in.jsonl", "in.jsonl"),
        ("s3://bucket/rows.parquet", "rows.parquet"),
        ("https://user:password@host/rows.csv?key=secret#part", "rows.csv"),
        ("ftp://user:password@host", "host"),
        ("rows/*.jsonl", "*.jsonl"),
        ("a@b.jsonl", "a@b.jsonl"),
    ],
)
def test_an_input_is_named_without_the_way_to_it(path: str, name: str) -> None:
    assert metered._name(path) == name


@pytest.mark.parametrize(
    ("value", "seconds"), [("10000", 10.0), ("500", 0.5), ("", 60), ("often", 60), ("0", 60), ("-1", 60), ("inf", 60)]
)
def test_the_environment_says_how_often_to_push(value: str, seconds: float) -> None:
    assert metered._environment_interval_s({"OTEL_METRIC_EXPORT_INTERVAL": value}) == seconds
