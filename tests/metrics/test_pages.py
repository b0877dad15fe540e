"""What docs/metrics.md, the dashboard and the alerts name is there."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from rowmill.metrics.catalogue import FAMILIES, plain
from rowmill.metrics.meter import RunMeter
from rowmill.metrics.prometheus import Exposition
from tests.metrics.conftest import BATCHES, REPORT

DOCS = Path(__file__).parents[2] / "docs"
GRAFANA = DOCS / "grafana"
DASHBOARD = json.loads((GRAFANA / "rowmill.json").read_text(encoding="utf-8"))
# Of an expression: a metric, and the labels that it is asked for.
SERIES = re.compile(r"\b((?:rowmill|gen_ai|process|target)_[a-z_]+)(?:\{([^}]*)\})?")

GROUPS = re.compile(r"\b(?:by|on) \(([^)]*)\)")


@pytest.fixture
def samples(meter: Callable[..., RunMeter]) -> dict[str, set[str]]:
    """Return the labels of every series that a run has while it goes on, and when it has ended."""
    made = meter("batch")
    made.look(BATCHES)
    exposition = Exposition(made)
    found: dict[str, set[str]] = {}
    for _ in range(2):
        text = exposition.text("", "")
        assert text is not None
        for family in parsed(text[0].decode()):
            for sample in family.samples:
                found.setdefault(sample.name, {"job", "instance"}).update(sample.labels)
        made.ended(REPORT, 0)
    return found


def expressions() -> list[str]:
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    found += [each["query"]["query"] for each in DASHBOARD["templating"]["list"] if each["type"] == "query"]
    rules = (GRAFANA / "rules.yml").read_text(encoding="utf-8")
    return [*found, *re.findall(r"expr: (?:>-\n)?(.*?)\n +(?:for|labels):", rules, re.DOTALL)]


def test_the_page_names_every_metric_as_it_is() -> None:
    rows = [
        f"| `{family.prometheus}{'_total' if family.kind == 'counter' else ''}` | {family.kind} "
        f"| {', '.join(f'`{plain(each)}`' for each in family.labels)} | {family.help} |"
        for family in FAMILIES
    ]
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    assert text.partition("|---|---|---|---|\n")[2].splitlines() == rows


def test_what_dashboard_and_alerts_ask_for_is_there(samples: dict[str, set[str]]) -> None:
    asked = expressions()
    assert len(asked) > 60
    for expression in asked:
        named = SERIES.findall(GROUPS.sub("", expression))
        assert {name for name, _ in named} <= samples.keys(), expression
        for name, matchers in named:
            assert set(re.findall(r"(\w+)=", matchers)) <= samples[name], expression
        labels = {label for group in GROUPS.findall(expression) for label in group.split(", ")}
        assert labels <= {"le"}.union(*(samples[name] for name, _ in named)), expression


def test_the_dashboard_shows_every_metric_and_takes_its_source_as_a_variable() -> None:
    shown = {name for expression in expressions() for name, _ in SERIES.findall(expression)}
    suffixes = {"counter": "_total", "gauge": "", "histogram": "_bucket"}
    assert {family.prometheus + suffixes[family.kind] for family in FAMILIES} - shown == {
        *("rowmill_session_start_time_seconds", "rowmill_run_requests", "rowmill_run_tokens"),
        *("rowmill_budget_requests", "rowmill_run_unpriced_models"),
    }, "of little use to look at"
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    (source,) = [each for each in DASHBOARD["templating"]["list"] if each["name"] == "datasource"]
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)), "two panels lie on each other"
    assert max(x for x, _ in cells) < 24


def test_the_names_of_files_that_the_page_names_are_there() -> None:
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    named = re.findall(r"\]\((grafana/[\w.]+)\)", text)
    assert {path.relative_to(DOCS).as_posix() for path in GRAFANA.iterdir()} == set(named)


@pytest.mark.parametrize("words", [("config", "prometheus.yml"), ("rules", "rules.yml")], ids=" ".join)
def test_prometheus_takes_the_examples(words: tuple[str, str]) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian, Ubuntu: apt-get install prometheus)")
    done = subprocess.run([program, "check", *words], cwd=GRAFANA, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_every_expression_of_the_dashboard_is_one(tmp_path: Path) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian, Ubuntu: apt-get install prometheus)")
    filled = [
        target["expr"].replace("$__rate_interval", "1m").replace("$job", ".*").replace("$instance", ".*")
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", [])
    ]
    rules = [{"record": f"expression_{number}", "expr": text} for number, text in enumerate(filled)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    done = subprocess.run(
        [program, "check", "rules", "rules.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"{len(filled)} rules found" in done.stdout
