"""Where a run stands, on terminals of any width."""

import msgspec
import pytest

from rowmill.core.known_runs import KnownRun
from rowmill.core.reports import Status, StepFigures
from rowmill.interface.ui.lines import progress_line
from rowmill.interface.ui.report import of_config
from rowmill.interface.ui.status_text import status_text
from rowmill.runs.standing import StandingRun
from tests.interface.ui.snapshots import BUSY, HINDERED, SEVERAL, STEPS

RUN = KnownRun(run_dir="out.jsonl.run", state="at work", rows=5, of=9, failed=1)


def at_work(snapshot: object = BUSY) -> StandingRun:
    status = msgspec.convert({"at": 0.0, "session": "s", "snapshot": msgspec.to_builtins(snapshot)}, Status)
    return StandingRun(run=RUN, supervisor=None, status=status, told_s=0.0)


@pytest.mark.parametrize("snapshot", [BUSY, SEVERAL, HINDERED, STEPS])
@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_run_at_work_is_told_in_lines_that_fit_the_terminal(snapshot: object, width: int) -> None:
    text = status_text(at_work(snapshot), width=width)
    assert max(map(len, text.splitlines())) <= width
    for piece in progress_line(at_work(snapshot).status.snapshot).split("  "):  # type: ignore[union-attr]  # it has one
        assert [word for word in piece.split() if word not in text] == []


def test_what_belongs_together_has_a_line_of_its_own() -> None:
    shown = status_text(at_work(SEVERAL)).splitlines()
    assert shown[0] == "out.jsonl.run: at work"
    assert shown[1].startswith("  rows 12,345/60,000 (20.6%) failed 3  1,234 rows/s")
    assert shown[-1] == "  provider main: holding, next in 9m58s"


@pytest.mark.parametrize(
    ("state", "line"),
    [
        ("stopped", "  next     rowmill run c.toml goes on with it"),
        ("finished", "  next     rowmill retry c.toml asks again for the failed rows"),
    ],
)
def test_what_goes_on_with_a_run_is_a_whole_command_where_it_is_known(state: str, line: str) -> None:
    found = StandingRun(run=msgspec.structs.replace(RUN, state=state), supervisor=None, status=None, told_s=None)
    assert status_text(found, of_config("c.toml")).splitlines()[-1] == line
    assert status_text(found).splitlines()[-1] == line.replace(" c.toml", "")


def test_a_run_that_is_not_at_work_tells_what_its_steps_have_come_to() -> None:
    figures = {"rows": 9, "failed": 0, "requests": 9, "prompt_tokens": 0, "completion_tokens": 0}
    steps = tuple(StepFigures(name=name, left_out=out, **figures) for name, out in (("draft", 0), ("judge", 4)))
    status = at_work(msgspec.structs.replace(BUSY, steps=steps)).status
    found = StandingRun(run=msgspec.structs.replace(RUN, state="stopped"), supervisor=None, status=status, told_s=9.0)
    assert "  steps    draft 9, judge 9 (4 left out)" in status_text(found).splitlines()
