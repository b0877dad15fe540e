"""What a snapshot says, in the pieces that the live display and the plain lines share."""

from rowmill.core.plain_text import one_line
from rowmill.core.reports import ProviderView, Snapshot
from rowmill.interface.ui import figures

OPEN = "open"  # the state of a provider of which there is nothing to tell
_LATE_MS = 50.0  # an event loop that is this late has more to do than its core can
_SECOND_MS = 1000.0
_LONGEST_STEP = 18  # characters of a name


def rows_done(snapshot: Snapshot) -> str:
    """Return "rows 12,345/60,000 (20.6%)"; "rows 12,345 (counting)" while the input is still being counted."""
    rows, total = snapshot.totals.rows, snapshot.total_rows
    if total is None:
        return f"rows {rows:,} (counting)"
    return f"rows {rows:,}/{total:,} ({figures.share(rows, total)})"


def eta(snapshot: Snapshot) -> str:
    """Return "ETA 0:38", or "ETA -" where it cannot be told, or the run is about to stop."""
    return "ETA -" if snapshot.eta_s is None or snapshot.draining else f"ETA {figures.clock(snapshot.eta_s)}"


def waiting(snapshot: Snapshot) -> list[str]:
    """Return ["waiting 12, next in 9m58s"], or nothing where no row waits out a backoff, or would be sent after it."""
    if not snapshot.waiting or snapshot.draining:
        return []
    due = "" if snapshot.next_due_s is None else f", next in {figures.duration(snapshot.next_due_s)}"
    return [f"waiting {snapshot.waiting:,}{due}"]


def living(snapshot: Snapshot) -> list[int]:
    """Return the numbers of the workers that are there."""
    return [worker.number for worker in snapshot.workers if worker.state != "gone"]


def workers(snapshot: Snapshot) -> str:
    """Return how many workers there are, and in a cluster on how many nodes."""
    nodes = {worker.node for worker in snapshot.workers if worker.node}
    where = f" on {len(nodes)} {'node' if len(nodes) == 1 else 'nodes'}" if nodes else ""
    return f"workers {len(living(snapshot))}{where}"


def standing(provider: ProviderView) -> str:
    """Return "provider main: holding, next in 9m58s"."""
    due = "" if provider.held_s is None else f", next in {figures.duration(provider.held_s)}"
    return f"provider {one_line(provider.name)}: {provider.state}{due}"


def not_open(snapshot: Snapshot) -> list[ProviderView]:
    """Return the providers that are in any other state than open."""
    return [provider for provider in snapshot.providers if provider.state != OPEN]


def notices(snapshot: Snapshot) -> list[str]:
    """Return what holds the run back, each in one line."""
    return [one_line(notice) for notice in snapshot.notices if notice]


def steps(snapshot: Snapshot) -> list[str]:
    """Return ["step write 1,200", "step judge 900 (3 failed, 200 left out)"], or nothing where there is only one."""
    told = []
    for step in snapshot.steps or ():
        parts = [f"{count:,} {what}" for count, what in ((step.failed, "failed"), (step.left_out, "left out")) if count]
        name = figures.clipped(step.name, _LONGEST_STEP)
        told.append(f"step {name} {step.rows:,}" + (f" ({', '.join(parts)})" if parts else ""))
    return told


def slowed_by(snapshot: Snapshot) -> list[str]:
    """Return ["slowed by the rate of main: 60,000 requests a minute"], or nothing where it cannot be told."""
    return [f"slowed by {one_line(snapshot.slowed_by)}"] if snapshot.slowed_by else []


def draining(snapshot: Snapshot) -> list[str]:
    """Return what a run that is about to stop still does, and how to stop it at once."""
    doing = "finishing what is in flight" if snapshot.parts is None else "batches go on at the provider"
    return [f"draining: {doing}", "Ctrl-C to stop at once"]


def lag(late_ms: float) -> list[str]:
    """Return ["120 ms"], or nothing where the event loop is in time."""
    if late_ms <= _LATE_MS:
        return []
    return [f"{late_ms:.0f} ms" if late_ms < _SECOND_MS else figures.duration(late_ms / _SECOND_MS)]
