"""The claims of a run for a worker that does not see the directory in which they are: asked for by messages.

It is used as `store.cache.claims.Claims` is. What was not answered yet is told as taken: that is how it looks until the
answer is there, and then the next look finds what it says.
"""

from collections.abc import Callable, Sequence

from rowmill.core.wire import Answer, Failure
from rowmill.ipc.messages import ClaimsAnswer, ClaimsAsk, ToSupervisor
from rowmill.store.cache.claims import Claim
from rowmill.store.cache.shared_results import decode

_PUBLISHED_BYTES = 1 << 18  # of results in one message
_KEYS = 2_000  # in one message


class CarriedClaims:
    """One worker's access to the claims. floor: as of `Claims`."""

    def __init__(self, floor: int, tell: Callable[[ToSupervisor], None]) -> None:
        self.floor = floor
        self.on_answer: Callable[[], None] = lambda: None
        self._tell = tell
        self._asked = False  # and not answered yet
        self._wanted: dict[bytes, None] = {}  # keys to be asked for, in order
        self._held: set[bytes] = set()  # granted, and not yet taken
        self._results: dict[bytes, bytes] = {}

    def try_lock(self) -> bool:
        """Nobody else has what is here."""
        return True

    def unlock(self) -> None:
        """Ask for what has been wanted since the last time."""
        if self._asked or not self._wanted:
            return
        keys = list(self._wanted)[:_KEYS]
        for key in keys:
            del self._wanted[key]
        self._asked = True
        self._tell(ClaimsAsk(keys=keys))

    def claim(self, keys: Sequence[bytes]) -> list[Claim | Answer | Failure]:
        """Claim keys; each is held now, or taken as far as is known, or has its result."""
        return [self._claim(key) for key in keys]

    def _claim(self, key: bytes) -> Claim | Answer | Failure:
        if key in self._held:
            self._held.remove(key)
            return Claim.HELD
        return self._look(key)

    def look(self, keys: Sequence[bytes]) -> list[Claim | Answer | Failure]:
        """Look at keys that were taken: each still is, or has its result, or is free to be claimed."""
        return [Claim.FREE if key in self._held else self._look(key) for key in keys]

    def _look(self, key: bytes) -> Claim | Answer | Failure:
        result = self._results.pop(key, None)
        if result is not None:
            return decode(result)
        self._wanted[key] = None
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
        """Hear what has come of the keys that were asked for; the others are taken."""
        self._asked = False
        self._held.update(message.held)
        self._results.update(message.results)
        self.on_answer()

    def close(self) -> None:
        """There is nothing to close."""
