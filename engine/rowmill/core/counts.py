"""What is counted while a run goes on: rows by their outcomes, what workers did, what providers and batches are at."""

from typing import Literal

import msgspec

from rowmill.core.amounts import Spent
from rowmill.core.leases import LimitSample
from rowmill.core.sums import Sums


class Totals(Sums):
    """What recorded outcomes add up to. Rebuilt from checkpoints, so it survives every crash."""

    rows: int = 0  # recorded rows, failed ones included
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    requests: int = 0  # requests that recorded rows took, the failed tries included


class BatchView(msgspec.Struct, frozen=True):
    """One batch at the provider, as the progress display shows it."""

    part: int
    attempt: int  # 1 for a part's first batch
    batch: str  # the provider's id; "" before it is created
    status: str  # the provider's word, or "building", "uploading", "waiting", "collecting" for what is done here
    requests: int
    completed: int  # of them, as the provider counts
    failed: int


class ProviderSums(Sums, array_like=True):
    """What was done with one provider, from the start of a worker process on, or by several."""

    requests: int = 0  # sent
    answered: int = 0  # valid replies
    limited: int = 0  # 429s
    lost: int = 0  # results of a class that lowers concurrency: 429s, 503s, timeouts, resets
    unhealthy: int = 0  # results that speak against the provider's health: 5xx, timeouts, resets; no 429
    retries: int = 0  # of the requests, those that were not a row's first
    tokens: int = 0  # debited for what was sent, corrected by what replies said
    prompt_tokens: int = 0  # as valid replies said
    completion_tokens: int = 0
    cached_tokens: int = 0  # of the prompt tokens
    reply_s: float = 0.0  # time that the valid replies took, together
    wasted: Spent = msgspec.field(default_factory=Spent)  # of it, valid replies that were no valid answers
    doubtful: Spent = msgspec.field(default_factory=Spent)  # beside it, what may be billed without one, estimated
    models: dict[str, Spent] = msgspec.field(default_factory=dict)  # by the model that replies name, where rows name it
    odd_headers: int = 0  # limit headers that make no sense
    odd_usage: int = 0  # replies whose usage is impossible, and was taken as an estimate
    early: int = 0  # of the 429s, those from before anything was let through: they say nothing of a rate


# Of the way to a server that has never answered: nothing is there, which may yet start, or something else is.
DeadEnd = Literal["", "nothing", "another", "broken"]


class ProviderReport(ProviderSums, array_like=True):
    """What a worker tells of one provider, four times a second: its sums, and how it stands now.

    Reports add up as `ProviderSums`: how workers stand does not.
    """

    lease: int = 0  # serial of the lease in force
    in_flight: int = 0
    busy: float = 0.0  # of the time since the last report, the share in which every slot of the lease was in use
    wants_rate: bool = False  # since the last report a row waited for the requests or tokens of the lease
    wants_slots: bool = False  # since the last report a row waited for a slot of the lease
    idle: bool = False  # there is no row in hand that could be sent now
    largest: int = 0  # tokens of the largest request since the last report
    last: bool = False  # half of the rows that are left have failed, or more, and for what may be their own
    trouble: str = ""  # the latest failure since the last report that speaks against the provider's health
    dead_end: DeadEnd = ""  # whether it speaks of the way to a server that has never answered, as in `Tripped`
    doubted: int = 0  # rows that were refused since its last answer for what may be the provider's
    refusal: str = ""  # why, or why rows have failed, all for the same reason, where it has answered none
    limit: str = ""  # what its latest 429 says, where it has never answered in the run
    asked_s: float = 0.0  # the longest wait that a 429 has asked for, until then
    requests_limit: LimitSample | None = None  # the latest that replies said
    tokens_limit: LimitSample | None = None


class Counters(Sums):
    """What one worker process has done since it started. Only ever grows; dies with the process."""

    rows: int = 0  # brought to an outcome, on disk
    requests: int = 0
    replies: int = 0
    retries: int = 0
    maybe_billed_twice: int = 0  # retries after a failure in which the server may have done the work
    faults: dict[str, int] = msgspec.field(default_factory=dict)  # fault class -> how often
    cached: int = 0  # rows answered from the cache of earlier runs
    duplicates: int = 0  # rows answered by the reply to an identical row of this run
    reasked: int = 0  # requests that show a model what was wrong with its reply
    packed: int = 0  # rows that went out together with others in one request
    tokens_saved: int = 0  # by packing: what the rows beyond the first of a request would have repeated, estimated
    spared: Spent = msgspec.field(default_factory=Spent)  # by the cache and by duplicates: what the replies had cost
    failed: int = 0  # of the rows, failed ones
