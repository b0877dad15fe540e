"""Where a run stands, as text."""

from collections.abc import Iterator

from rowmill.core.plain_text import one_line
from rowmill.interface.ui import figures, phrases
from rowmill.interface.ui.cells import filled
from rowmill.interface.ui.lines import progress_parts
from rowmill.interface.ui.report import Again
from rowmill.runs.standing import StandingRun

_FURTHER = 4  # columns before what goes on of the line above
_LATE_S = 5.0  # a session that has not written for so long hangs, or its machine does


def status_text(found: StandingRun, again: Again | None = None, width: int = 0) -> str:
    """Return it in some lines: what state the run is in, how far it is, what it waits for, what to do next.

    again: the commands that go on with it, where they are known. width: of the terminal; 0 where there is none.
    """
    return "\n".join(_lines(found, again, width))


def _lines(found: StandingRun, again: Again | None, width: int) -> Iterator[str]:
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
        if status is not None and (told := phrases.steps(status.snapshot)):
            yield f"  steps    {', '.join(text.removeprefix('step ') for text in told)}"
        if run.problem:
            yield f"  problem  {one_line(run.problem)}"
        if run.state == "stopped":
            yield f"  next     {again.run if again else 'rowmill run'} goes on with it"
        elif run.failed:
            yield f"  next     {again.retry if again else 'rowmill retry'} asks again for the failed rows"
        return
    for parts in progress_parts(status.snapshot):
        indent = "  "
        # Words stay whole where the terminal is wide enough for any: a part by itself may be longer than it.
        words = [(part, None) for part in parts] if len(parts) > 1 else [(word, None) for word in parts[0].split(" ")]
        for line in filled(words, max(0, width - _FURTHER), gap="  " if len(parts) > 1 else " ", colour=False):
            yield indent + line
            indent = " " * _FURTHER
    if found.told_s is not None and found.told_s > _LATE_S:
        yield f"  as it was {figures.duration(found.told_s)} ago: it has not told anything since"
