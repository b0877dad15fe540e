"""The claims of a run for workers that do not see them: asked here, on the driver, in their names. Blocks."""

import threading
from collections.abc import Sequence
from pathlib import Path

from rowmill.core.errors import MachineError
from rowmill.ipc.messages import ClaimsAnswer, ClaimsAsk
from rowmill.store.cache.claims import Claim, Claims
from rowmill.store.cache.ended_requests import EndedRequests
from rowmill.store.cache.shared_results import encode

_ANSWER_BYTES = 1 << 20  # of results in one answer: the workers ask again for what has found no room
_KEYS = 16  # that are claimed before these are counted


class SharedRequests:
    """The claims of all workers of nodes, each under its own number."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._claims: dict[int, Claims] = {}
        self._ended = EndedRequests(directory)  # of all of them: else each worker's results would be open for each
        self._turn = threading.Lock()  # of the threads here; the claims' own lock is of processes

    def ask(self, claimant: int, ask: ClaimsAsk) -> ClaimsAnswer | None:
        """Do what a worker asks; returns the answer where it asks for keys. Raises `MachineError`."""
        with self._turn:
            claims = self._claims.get(claimant)
            if claims is None:
                claims = self._claims[claimant] = Claims(self._directory, claimant, self._ended)
            if not claims.try_lock():  # all that use them are here
                raise MachineError(f"{self._directory} is in use by another process: end that, then run again")
            try:
                if ask.published:
                    claims.publish(ask.published)
                if ask.released:
                    claims.release(ask.released)
                if not ask.keys:
                    return None
                return _answer(claims, ask.keys)
            finally:
                claims.unlock()

    def forget(self, claimant: int) -> None:
        """Let go of what a worker had open. That its claims are void, the supervisor says."""
        with self._turn:
            claims = self._claims.pop(claimant, None)
            if claims is not None:
                claims.close()
            if not self._claims:
                self._ended.close()


def _answer(claims: Claims, keys: Sequence[bytes]) -> ClaimsAnswer:
    """Claim as many of the keys, one after the other, as there is room for their results."""
    answer = ClaimsAnswer(held=[], results=[])
    size = 0
    for first in range(0, len(keys), _KEYS):
        if size >= _ANSWER_BYTES:
            break
        group = keys[first : first + _KEYS]
        for key, state in zip(group, claims.claim(group), strict=True):
            if state is Claim.HELD:
                answer.held.append(key)
            elif not isinstance(state, Claim):
                result = encode(state)
                answer.results.append((key, result))
                size += len(result)
    return answer
