"""How long a failed row waits, and after how many tries it has failed for good: tenacity's policies.

Loaded at a worker's first failure: tenacity takes a twentieth of its start.
"""

import tenacity

_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0


class Backoff:
    """Waits that double, and an end."""

    def __init__(self, attempts: int) -> None:
        """Allow so many tries, the first one included."""
        self._stop = tenacity.stop_after_attempt(attempts)
        self._wait = tenacity.wait_exponential(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S)

    def over(self, tries: int) -> bool:
        """Tell whether that many are all."""
        return self._stop(_call_state(tries))

    def wait_s(self, tries: int) -> float:
        """Return the seconds to wait after that many."""
        return self._wait(_call_state(tries))


def _call_state(attempt_number: int) -> tenacity.RetryCallState:
    # tenacity's policies read the attempt number from the state of a call that it makes itself; here it makes none.
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = attempt_number
    return state
