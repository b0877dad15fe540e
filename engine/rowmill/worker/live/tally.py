"""What a worker has counted, on its board, for the case that it is killed before it has told it.

Requests, tokens and failures are on the board as they happen; the rest follows with every group that is on the disk.
Part of the hot path (see `dispatcher`).
"""

from array import array
from collections.abc import Callable, Sequence

from rowmill.core import tallies
from rowmill.core.counts import Counters
from rowmill.worker.live.provider import Provider


class Tally:
    """Keeps the counts of a board up with those of a worker."""

    def __init__(
        self,
        counts: memoryview,
        providers: Sequence[Provider],
        count: Callable[[], Counters],
        faults: Sequence[str],
    ) -> None:
        """Begin to write. `counts`: of the board, as `tallies.names` orders them. `count`: tells the counters."""
        self._counts = counts
        self._providers = providers
        self._count = count
        self._faults = tuple(faults)
        width = len(tallies.OF_PROVIDER)
        first = len(providers) * width
        for provider in providers:
            provider.counts = counts[provider.number * width : (provider.number + 1) * width]
        self._doubtful = first + tallies.OF_WORKER.index("maybe_billed_twice")
        first += len(tallies.OF_WORKER)
        self._of_fault = {fault: first + place for place, fault in enumerate(self._faults)}

    def failed(self, fault: str, seen: int) -> None:
        """Write down how many failures of a class there were."""
        self._counts[self._of_fault[fault]] = seen

    def doubtful(self, requests: int) -> None:
        """Write down how many requests were sent again that may have been answered."""
        self._counts[self._doubtful] = requests

    def keep(self) -> None:
        """Write everything down."""
        providers = [provider.report for provider in self._providers]
        self._counts[:] = memoryview(array("q", tallies.values(self._count(), providers, self._faults)))

    def leave(self) -> None:
        """Let go of the board."""
        for provider in self._providers:
            provider.counts = array("q", provider.counts)
