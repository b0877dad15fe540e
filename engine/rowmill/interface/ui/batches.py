"""What there is to say of batches, in the pieces that the live display, the plain lines and the summary show.

A batch's status is the provider's own word for it, so it may be anything: it is cleaned and clipped here.
"""

from collections.abc import Sequence

from rowmill.core.counts import BatchView
from rowmill.core.reports import Snapshot
from rowmill.interface.ui import figures

# In the order of a batch's way. The provider's other words stand at the end.
_WAY = ("building", "uploading", "waiting", "validating", "in progress", "finalizing", "cancelling", "collecting")
_OVER = frozenset({"completed", "failed", "expired", "cancelled", "collecting"})  # nothing more is done there
_LONGEST = 16  # characters of a status; the longest known one has 11
_STATUSES = 5  # different ones in a line


def in_use(snapshot: Snapshot) -> bool:
    """Tell whether the run goes by the Batch API now."""
    return snapshot.parts is not None


def status(batch: BatchView) -> str:
    """Return "in progress"."""
    return figures.clipped(batch.status.replace("_", " "), _LONGEST).strip() or "unknown"


def parts_done(snapshot: Snapshot) -> str:
    """Return "batches 3 of 7 parts done"."""
    done, parts = snapshot.parts or (0, 0)
    return f"batches {done:,} of {parts:,} parts done"


def by_status(batches: Sequence[BatchView]) -> list[str]:
    """Return ["validating 1", "in progress 2 (61%)", "collecting 1"]."""
    groups: dict[str, list[BatchView]] = {}
    for batch in batches:
        groups.setdefault(status(batch), []).append(batch)
    ordered = sorted(groups, key=lambda word: (_WAY.index(word) if word in _WAY else len(_WAY), word))
    texts = [f"{word} {len(groups[word]):,}{_share(word, groups[word])}" for word in ordered[:_STATUSES]]
    if rest := sum(len(groups[word]) for word in ordered[_STATUSES:]):
        texts.append(f"other {rest:,}")
    return texts


def requests(snapshot: Snapshot) -> list[str]:
    """Return ["requests 61,234/100,000 completed, 12 failed"] of what is at the provider, as the provider counts."""
    if not snapshot.batches:
        return []
    failed = sum(each.failed for each in snapshot.batches)
    return [f"requests {_completed(snapshot.batches)} completed{f', {failed:,} failed' if failed else ''}"]


def columns(batch: BatchView) -> list[str]:
    """Return the batch's cells: part, try, status, requests completed of all."""
    return [f"part {batch.part:,}", f"try {batch.attempt:,}", status(batch), _completed([batch])]


def more(batches: Sequence[BatchView]) -> list[str]:
    """Return ["12 more", "requests 1,234/600,000"] of those for which there is no line."""
    return [f"{len(batches):,} more", f"requests {_completed(batches)}"]


def has_eta(snapshot: Snapshot) -> bool:
    """Tell whether the time left can be told: not while the provider works, which takes what time it likes."""
    return snapshot.eta_s is not None and all(each.status == "collecting" for each in snapshot.batches)


def left_behind(batches: Sequence[BatchView]) -> list[str]:
    """Return lines on the batches that a session left at the provider; none where there are none."""
    created = [batch for batch in batches if batch.batch]
    over = sum(status(batch) in _OVER for batch in created)
    going = len(created) - over
    if not created:
        return []
    told = []
    if going:
        told.append(f"{going:,} {'goes' if going == 1 else 'go'} on at the provider")
    if over:
        told.append(f"{over:,} {'is' if over == 1 else 'are'} over there and not collected")
    pick_up = f"run the same command again to pick {'it' if len(created) == 1 else 'them'} up"
    return [", ".join(told), f"{pick_up}, or rowmill cancel" if going else pick_up]


def _share(word: str, batches: Sequence[BatchView]) -> str:
    whole = sum(batch.requests for batch in batches)
    if word != "in progress" or whole <= 0:
        return ""
    settled = sum(batch.completed + batch.failed for batch in batches)
    return f" ({max(min(settled * 100 // whole, 100), 0)}%)"


def _completed(batches: Sequence[BatchView]) -> str:
    return f"{sum(each.completed for each in batches):,}/{sum(each.requests for each in batches):,}"
