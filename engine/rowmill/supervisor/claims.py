"""The supervisor's side of shared requests: claims are begun with a session, and void once their owner is gone."""

from rowmill.store.cache import claims
from rowmill.supervisor.prepared import Prepared


class ClaimCleanup:
    """What the workers of a run share of their requests; nothing where the cache is off."""

    def __init__(self, prepared: Prepared, *, fresh: bool) -> None:
        """`fresh`: how requests ended in earlier sessions counts no more, as where failed rows are done again."""
        self._config = prepared.config.cache
        self._cached = prepared.cached
        self._claims = prepared.directory.claims
        self._fresh = fresh or not prepared.resumed
        self._first = 0

    def begin(self) -> None:
        """Begin the session, before there are workers."""
        if self._config.use != "off":
            self._first = claims.begin_session(self._claims, self._cached, fresh=self._fresh)

    def claimant(self, incarnation: int) -> int:
        """Return the number that a worker of this session claims under."""
        return self._first + incarnation

    def forget(self, incarnation: int) -> None:
        """Void the claims of a worker that has ended."""
        if self._config.use != "off":
            claims.forget(self._claims, self.claimant(incarnation))
