"""Where a run stands, as text."""

from collections.abc import Iterator

from rowmill.core.plain_text import one_line
from rowmill.interface.ui import figures
from rowmill.interface.ui.lines import progress_line
from rowmill.runs.standing import StandingRun

_LATE_S = 5.0  # a session that has not written for so long hangs, or its machine does


def status_text(found: StandingRun) -> str:
    """Return it in some lines: what state the run is in, how far it is, what it waits for, what to do next."""
    return "\n".join(_lines(found))


def _lines(found: StandingRun) -> Iterator[str]:
    run, supervisor, status = found.run, found.supervisor, found.status
    who = ""
    if supervisor is not None:
        who = f": process {supervisor.pid} on {one_line(supervisor.host)} since {supervisor.since}"
    yield f"{one_line(run.run_dir)}: {run.state}{who}"
    if run.state != "at work" or status is None:
        of = "" if run.of is None else f" of {run.of:,}"
        cost = "" if run.usd is None else f", {figures.money(run.usd)}"
        yield f"  rows     {run.rows:,}{of}, {run.failed:,} failed{cost}"
        yield from (
            f"  {name:<8} {one_line(text)}" for name, text in (("input", run.input), ("output", run.output)) if text
        )
        if run.problem:
            yield f"  problem  {one_line(run.problem)}"
        if run.state == "stopped":
            yield "  next     rowmill run goes on with it"
        elif run.failed:
            yield "  next     rowmill retry asks again for the failed rows"
        return
    yield f"  {progress_line(status.snapshot)}"
    if found.told_s is not None and found.told_s > _LATE_S:
        yield f"  as it was {figures.duration(found.told_s)} ago: it has not told anything since"
