"""What a worker may send: its lease of a provider's budget, and what the server says of its limits."""

import msgspec


class Share(msgspec.Struct, frozen=True, array_like=True):
    """One worker's part of one limit: a token bucket (the same arithmetic as GCRA) cut out of the whole one."""

    rate: float  # units a second
    burst: float  # units that may be spent at once
    credit: float = 0.0  # units handed over with it; below 0 a debt that is handed over


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """What one worker may send to one provider, until it is renewed or expires. All times are CLOCK_MONOTONIC seconds.

    That clock is one for all processes of a machine, and runs on while a process is stopped.
    """

    provider: int  # its place in the configuration
    serial: int  # counts the leases of this worker and provider, from 1
    expires: float  # nothing is sent on it from here on
    in_flight: int  # requests at a time; 0 sends nothing
    requests: Share | None = None  # None: no limit
    tokens: Share | None = None
    largest: float | None = None  # tokens that no single request may exceed: the provider's limit a minute
    paused_until: float = 0.0  # the provider asked for silence until then
    closed: bool = False  # the provider is done with for the rest of the session
    failing: bool = False  # its breaker is open: what is allowed is a probe
    proven: bool = False  # it has answered some worker in this session
    silent: bool = False  # as far as is known, it lets nothing through now
    known: bool = False  # it has answered, in this session or an earlier one of the run
    last: bool = False  # few rows are left, and they have failed: what they meet may be their own, and spends attempts


class LimitSample(msgspec.Struct, frozen=True, array_like=True):
    """One of a server's `x-ratelimit-*` triples: what it says of one of its buckets."""

    limit: float  # units a period
    remaining: float  # units left of them
    reset_s: float  # seconds until all of them are there again
