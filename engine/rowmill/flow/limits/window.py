"""What a provider was sent, and what of it it refused, over the last minute.

What it took is the difference. It is known at once, while answers come only after the time that a reply takes: with
replies of half a minute, the answers of the last seconds say nothing of what is let through now.
"""

from collections import deque

import msgspec

_STEP_S = 0.2  # reports that come closer together are kept as one
_KEPT_S = 60.0


class WindowSums(msgspec.Struct, frozen=True):
    """Sums over some seconds, which end with the latest report."""

    seconds: float = 0.0  # as long as they really were; 0 where there were no reports
    sent: float = 0.0  # requests
    tokens: float = 0.0
    refused: float = 0.0  # requests

    @property
    def sent_per_s(self) -> float:
        """Requests that were tried."""
        return self.sent / self.seconds if self.seconds > 0 else 0.0

    @property
    def taken_per_s(self) -> float:
        """Requests that were let through."""
        return max(0.0, self.sent - self.refused) / self.seconds if self.seconds > 0 else 0.0

    @property
    def tokens_of_one(self) -> float:
        """Tokens of a mean request."""
        return max(0.0, self.tokens) / self.sent if self.sent > 0 else 0.0


class SlidingWindow:
    """The running sums at each report: differences of them are exact, whatever falls between two reports."""

    def __init__(self, now: float) -> None:
        self._sums = deque([WindowSums(now)])  # here `seconds` is the time of the report
        self._refused = 0
        self._skipped_s = 0.0

    def skip(self, seconds: float) -> None:
        """Leave so many seconds up to the next report out: nothing could be sent, whatever the provider takes."""
        self._skipped_s += seconds

    def sent(self, requests: int, tokens: int, now: float, *, refused: int = 0) -> None:
        """Count what a report says was sent, and what of it or of earlier requests was refused.

        Both from the same reports: refusals that are known earlier than what was sent would look like more of them.
        Tokens may be below 0: estimates are corrected.
        """
        self._refused += refused
        now -= self._skipped_s
        last = self._sums[-1]
        if not requests and not last.sent:
            # Before the first request there was no rate: the workers are still starting.
            self._sums = deque([WindowSums(now)])
            return
        if len(self._sums) > 1 and now - self._sums[-2].seconds < _STEP_S:
            self._sums.pop()
        self._sums.append(WindowSums(now, last.sent + requests, last.tokens + tokens, self._refused))
        while self._sums[1].seconds < now - _KEPT_S:
            self._sums.popleft()

    def forget(self, now: float) -> None:
        """Start anew: what was until now says nothing of what is let through."""
        self._refused = 0
        self._sums = deque([WindowSums(now - self._skipped_s)])

    def over(self, seconds: float) -> WindowSums:
        """Return what there was in at least so many seconds before the latest report; less where there was less."""
        last = first = self._sums[-1]
        for sums in reversed(self._sums):
            first = sums
            if sums.seconds <= last.seconds - seconds:
                break
        return WindowSums(
            last.seconds - first.seconds,
            last.sent - first.sent,
            last.tokens - first.tokens,
            last.refused - first.refused,
        )
