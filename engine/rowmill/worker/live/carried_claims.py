"""The claims of a run for a worker that does not see the directory in which they are: asked for by messages.

It is used as `store.cache.claims.Claims` is. What was not answered yet is told as taken: that is how it looks until the
answer is there, and then the next look finds what it says.

One message at a time is on its way, with so many keys at most, and first those that were never asked for. What others
ask is asked for again and again, by every worker whose rows wait for it: so many a second at most.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from time import monotonic

from rowmill.core.wire import Answer, Failure
from rowmill.ipc.messages import ClaimsAnswer, ClaimsAsk, ToSupervisor
from rowmill.store.cache.claims import Claim
from rowmill.store.cache.shared_results import decode

_PUBLISHED_BYTES = 1 << 18  # of results in one message
_KEYS = 2_000  # in one message
_LOOKS_PER_S = 8_000  # keys that are asked for again: 1.4% of a core of the driver's, for each worker


class CarriedClaims:
    """One worker's access to the claims. floor: as of `Claims`."""

    def __init__(self, floor: int, tell: Callable[[ToSupervisor], None]) -> None:
        self.floor = floor
        self.on_answer: Callable[[], None] = lambda: None
        self._tell = tell
        self._asked: set[bytes] = set()  # on their way: whoever asked for them once more would be given them once more
        self._fresh: dict[bytes, None] = {}  # to be asked for, in order
        self._taken: dict[bytes, None] = {}  # to be asked for again
        self._look_at = 0.0  # when the next of these may be
        self._held: set[bytes] = set()  # granted, and not yet taken
        self._results: dict[bytes, bytes] = {}

    def try_lock(self) -> bool:
        """Nobody else has what is here."""
        return True

    def unlock(self) -> None:
        """Ask for what has been wanted since the last time."""
        if self._asked:
            return
        keys = list(islice(self._fresh, _KEYS))
        for key in keys:
            del self._fresh[key]
        if self._taken and (now := monotonic()) >= self._look_at:
            again = list(islice(self._taken, _KEYS - len(keys)))
            for key in again:
                del self._taken[key]
            self._look_at = now + len(again) / _LOOKS_PER_S
            keys += again
        if keys:
            self._asked.update(keys)
            self._tell(ClaimsAsk(keys=keys))

    def claim(self, keys: Sequence[bytes]) -> list[Claim | Answer | Failure]:
        """Claim keys; each is held now, or taken as far as is known, or has its result."""
        return [self._claim(key) for key in keys]

    def _claim(self, key: bytes) -> Claim | Answer | Failure:
        if key in self._held:
            self._held.remove(key)
            return Claim.HELD
        return self._look(key, self._fresh)

    def look(self, keys: Sequence[bytes]) -> list[Claim | Answer | Failure]:
        """Look at keys that were taken: each still is, or has its result, or is free to be claimed."""
        return [Claim.FREE if key in self._held else self._look(key, self._taken) for key in keys]

    def _look(self, key: bytes, wanted: dict[bytes, None]) -> Claim | Answer | Failure:
        result = self._results.pop(key, None)
        if result is not None:
            return decode(result)
        if key not in self._asked and key not in self._fresh:
            wanted[key] = None
        return Claim.TAKEN

    def publish(self, results: Sequence[tuple[bytes, bytes]]) -> None:
        """Tell what has come of keys that this worker holds: (key, encoded result)."""
        group: list[tuple[bytes, bytes]] = []
        size = 0
        for each in results:
            group.append(each)
            size += len(each[1])
            if size >= _PUBLISHED_BYTES:
                self._tell(ClaimsAsk(published=group))
                group, size = [], 0
        if group:
            self._tell(ClaimsAsk(published=group))

    def release(self, keys: Sequence[bytes]) -> None:
        """Give back keys that this worker holds and will not ask."""
        self._tell(ClaimsAsk(released=list(keys)))

    def answered(self, message: ClaimsAnswer) -> None:
        """Hear what has come of the keys that were asked for; the others are taken, or found no room in the answer."""
        self._asked.clear()
        self._held.update(message.held)
        self._results.update(message.results)
        self.on_answer()

    def close(self) -> None:
        """There is nothing to close."""
