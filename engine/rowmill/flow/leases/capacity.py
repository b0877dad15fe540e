"""What one provider allows in all: what a lease allocator has to cut up."""

import msgspec

from rowmill.core.leases import Share

# Of a rate or burst. A learned limit creeps all the time, and every change is a message to everyone.
_NEARLY = 0.05


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of what leases say, for all holders together."""

    requests: Share | None = None  # None: no limit
    tokens: Share | None = None
    in_flight: int = 0  # requests at a time
    ceiling: int = 0  # the most of them that one holder may have
    # Told to everyone, as in `Lease`:
    largest: float | None = None
    paused_until: float = 0.0
    closed: bool = False
    failing: bool = False
    proven: bool = False
    silent: bool = False
    known: bool = False
    last: bool = False

    def is_nearly(self, other: "Capacity") -> bool:
        """Tell whether only rates or bursts differ, and by little."""
        for share, before in ((self.requests, other.requests), (self.tokens, other.tokens)):
            if (share is None) != (before is None):
                return False
            if share is not None and before is not None:
                pairs = ((share.rate, before.rate), (share.burst, before.burst))
                if any(abs(value - was) > _NEARLY * was for value, was in pairs):
                    return False
        return msgspec.structs.replace(self, requests=None, tokens=None) == msgspec.structs.replace(
            other, requests=None, tokens=None
        )
