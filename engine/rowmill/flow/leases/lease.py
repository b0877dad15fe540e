"""A worker's end of one provider's leases: what the one in force lets it send, and when.

The other end is the supervisor's `LeaseAllocator`. What it counts on from here: nothing is sent on a lease that has
expired or was replaced; credit that was not spent by the time a lease expires is gone, for the allocator has given that
capacity to others; what a smaller lease has no room for is handed back by `apply`, whose result travels with the
acknowledgement.
"""

import math

from rowmill.core.leases import Lease, Share
from rowmill.flow.leases.bucket import Bucket


class ClientLease:
    """The lease in force, as the way of a row asks for it. Before the first lease nothing may be sent."""

    __slots__ = ("_largest", "_own_pause", "_requests", "_tokens", "allowed", "closed", "expires", "limited",
                 "paused_until", "serial")  # fmt: skip

    def __init__(self) -> None:
        self.serial = 0  # of the lease in force
        self.allowed = 0  # requests at a time
        self.expires = -math.inf
        self.closed = False
        self.limited = False  # whether there is any rate to wait for
        self.paused_until = 0.0
        self._own_pause = 0.0  # until when, by what this worker saw itself
        self._largest: float | None = None
        self._requests: Bucket | None = None
        self._tokens: Bucket | None = None

    def __repr__(self) -> str:
        limits = f"requests {self._requests}, tokens {self._tokens}"
        return f"<lease {self.serial} to {self.expires:g}: {self.allowed} slots, {limits}>"

    def apply(self, lease: Lease, now: float) -> tuple[float, float]:
        """Go by this lease from now on. Return what it has no room for: credit of requests and of tokens.

        A lease that is not newer than the one in force is ignored.
        """
        if lease.serial <= self.serial:
            return 0.0, 0.0
        if now >= self.expires:
            for bucket in (self._requests, self._tokens):
                if bucket is not None:
                    bucket.lapse(self.expires, now)
        self._requests, requests_left = _resized(self._requests, lease.requests, now)
        self._tokens, tokens_left = _resized(self._tokens, lease.tokens, now)
        self.serial = lease.serial
        self.expires = lease.expires
        self.closed = lease.closed
        self.allowed = 0 if lease.closed else lease.in_flight
        self.limited = self._requests is not None or self._tokens is not None
        self.paused_until = max(self._own_pause, lease.paused_until)
        self._largest = lease.largest
        return requests_left, tokens_left

    def pause(self, until: float) -> None:
        """Send nothing before this time, whatever later leases say: the supervisor need not be asked first."""
        self._own_pause = max(self._own_pause, until)
        self.paused_until = max(self.paused_until, until)

    def fits(self, tokens: float) -> bool:
        """Tell whether a request of so many tokens can pass at all: no server lets more than a minute's through."""
        return self._largest is None or tokens <= self._largest

    def ready_at(self, tokens: float, now: float) -> float:
        """Return when a request of so many estimated tokens may be sent; at or before `now` means at once.

        `math.inf` where only another lease can help: there is none, or it has expired, or it allows nothing.
        """
        if now >= self.expires or not self.allowed:
            return math.inf
        due = self.paused_until
        # No max(): the call would cost as much as the comparison's whole bucket.
        if self._requests is not None and (ready := self._requests.ready_at(1.0, now)) > due:
            due = ready
        if self._tokens is not None and (ready := self._tokens.ready_at(tokens, now)) > due:
            due = ready
        return due

    def spend(self, tokens: float, now: float) -> None:
        """Debit one request of so many estimated tokens, at the moment of sending."""
        if self._requests is not None:
            self._requests.spend(1.0, now)
        if self._tokens is not None:
            self._tokens.spend(tokens, now)

    def settle(self, debited: float, used: float, now: float) -> None:
        """Correct the debit by what the reply says was used; what no minute can hold is a mistake of the reply."""
        if self._tokens is not None:
            if self._largest is not None and used > self._largest:
                used = self._largest
            # Replies may come after the lease has expired: nothing is earned from then on.
            self._tokens.spend(used - debited, min(now, self.expires))


def _resized(bucket: Bucket | None, share: Share | None, now: float) -> tuple[Bucket | None, float]:
    """Return the bucket of this share, grown out of the one before, and the credit left over."""
    if share is None:
        return None, 0.0
    if bucket is None:
        bucket = Bucket(share.rate, share.burst, now)
    return bucket, bucket.resize(share.rate, share.burst, now, share.credit)
