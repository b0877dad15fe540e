"""What a report says: one document of JSON, all that its page draws.

It is bounded whatever the rows are: texts are cut, and of what there are too many, the first ones stand here, with how
many more there are. Times (`at`) are seconds since 1970; money is in dollars; None is what is not known.
"""

import msgspec

from rowmill.core.win_rates import WinRates


class RunFacts(msgspec.Struct, kw_only=True):
    """Which run it is, and how it stands."""

    id: str
    run_dir: str
    input: str
    output: str
    errors: str | None
    state: str  # "running", "finished", "stopped", "killed"
    words: str  # the same in a line
    next: str | None  # what goes on with it, in words, with commands between backquotes
    started: float | None
    ended: float | None  # None while it runs
    slowed_by: str  # why it is not faster, in a few words; empty where that cannot be told
    notices: list[str]  # what held it back at some time, or was changed before it started


class TotalFacts(msgspec.Struct, kw_only=True):
    """What the run comes to, over all of its sessions."""

    rows: int | None  # of the input; None where it was not counted to its end
    done: int  # rows that have an outcome, failed ones included
    failed: int
    elapsed_s: float  # at work, pauses between sessions left out
    rows_per_s: float
    requests: int
    retries: int
    reasked: int  # requests that show a model what was wrong with its reply
    prompt_tokens: int  # of rows that have an outcome; what was spent in all is in the cost
    completion_tokens: int
    cached: int  # rows answered from the cache of earlier runs
    duplicates: int  # rows answered by the reply to an identical row of this run
    packed: int  # rows that went out together with others in one request
    tokens_saved: int  # by packing, estimated
    deaths: int  # of workers
    quarantined: int  # rows given up because workers died of them
    billed_twice_max: int
    cpu_s: float
    rss_max_mb: dict[str, float]  # "supervisor", "worker": the largest of each


class CostEntry(msgspec.Struct, kw_only=True):
    """What one model of one provider has cost."""

    provider: str
    model: str
    mode: str  # "live" or "batch"
    requests: int
    prompt_tokens: int  # the cached ones included
    cached_tokens: int
    completion_tokens: int
    usd: float | None


class CostFacts(msgspec.Struct, kw_only=True):
    """What the run has cost."""

    usd: float | None
    projected_usd: float | None  # for all rows, as far as can be told
    max_usd: float | None  # the budget's
    max_tokens: float | None
    max_requests: float | None
    tokens: int
    requests: int
    retries_usd: float | None  # of it: replies that were no valid answers
    lost_usd: float | None  # beside it: may have been billed and brought no reply, estimated
    reserved_usd: float  # beside it: for what is under way
    cache_usd: float | None  # saved by the cache and by duplicates,
    packs_usd: float | None  # by packing,
    batches_usd: float | None  # by the Batch API
    lines: list[CostEntry]
    more_lines: int  # that are left out
    unpriced: list[str]  # models without a known price


class ProviderColumns(msgspec.Struct, kw_only=True):
    """What was done with one provider: as many values in each column as the timeline has moments."""

    name: str
    requests: list[int]
    answered: list[int]
    limited: list[int]  # 429s
    tokens: list[int]  # of prompts and replies
    in_flight: list[float]
    allowed: list[float]
    requests_per_s: list[float | None]  # that the limits let through; None: no limit
    tokens_per_s: list[float | None]
    state: list[str]  # "open", "holding", "failing", "recovering", "closed": the worst of the moment


class Timeline(msgspec.Struct, kw_only=True):
    """What was done, moment by moment: columns of equal length. Empty for runs of releases that wrote no series."""

    at: list[float]  # of a moment's end
    seconds: list[float]  # how long it was
    session: list[int]  # place in `sessions` of the document; -1: one that has no report
    rows: list[int]
    failed: list[int]
    requests: list[int]
    retries: list[int]
    prompt_tokens: list[int]
    completion_tokens: list[int]
    in_flight: list[float]
    allowed: list[float]
    waiting: list[float]  # rows in backoff
    workers: list[float]
    usd: list[float]
    cpu: list[float]  # cores that workers used
    rss_mb: list[float]
    lag_ms: list[float]
    usd_by: dict[str, list[float]]  # by model; where all is of one model: that one
    faults: dict[str, list[int]]  # failures of requests by class, those of the rarest together as "more"
    providers: list[ProviderColumns]
    more_providers: int  # that are left out


class Mark(msgspec.Struct, kw_only=True):
    """Something that happened, to be marked on the timeline."""

    at: float
    until: float | None  # None: at that moment
    kind: str  # start, resume, kill, stop, cap, hold, outage, closed, end, note
    words: str
    provider: str | None = None


class DistributionFacts(msgspec.Struct, kw_only=True):
    """How figures of single requests and rows are distributed."""

    name: str  # latency, slot_wait, rate_wait, prompt_tokens, completion_tokens
    title: str
    unit: str  # "ms" or "tokens"
    count: int
    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None
    buckets: list[tuple[int, int, int]]  # from, to (exclusive), how many


class FailureExample(msgspec.Struct, kw_only=True):
    """A row that failed."""

    index: int
    id: str | None
    code: str | None
    status: int | None
    message: str
    input: str | None  # None where the input is not at hand
    prompt: str | None  # as it was sent


class FailureFacts(msgspec.Struct, kw_only=True):
    """Rows that failed in one way."""

    name: str  # the fault class
    rows: int
    meaning: str
    advice: str
    examples: list[FailureExample]


class FaultFacts(msgspec.Struct, kw_only=True):
    """Requests that failed in one way, whatever became of their rows."""

    name: str
    requests: int
    meaning: str


class NumberFacts(msgspec.Struct, kw_only=True):
    """Numbers of a field."""

    count: int
    min: float
    p25: float
    median: float
    p75: float
    max: float
    mean: float
    buckets: list[tuple[float, float, int]]  # of equal width: from, to, how many


class FieldFacts(msgspec.Struct, kw_only=True):
    """One field of the structured replies; a nested one by its path, as "address.city"."""

    name: str
    kind: str  # "values": few of them; "numbers"; "texts": many, by their length; "mixed"
    rows: int  # that have it
    null: int  # of them, those where it is null
    values: list[tuple[str, int]]  # the most frequent ones, as text; of lists: of their members
    distinct: int | None  # None: more than were counted
    more: int  # values that are not among those above
    numbers: NumberFacts | None
    lengths: NumberFacts | None  # characters of texts, members of lists


class FieldsFacts(msgspec.Struct, kw_only=True):
    """What stands in the replies."""

    looked_at: int  # rows
    of: int
    fields: list[FieldFacts]
    more: int  # fields that are left out


class ReplyFacts(msgspec.Struct, kw_only=True):
    """A row with what came of it."""

    index: int
    id: str | None
    failed: bool
    input: str | None
    prompt: str | None
    output: str  # the reply; of a failed row why it has none
    finish_reason: str | None
    model: str | None
    tokens: tuple[int, int] | None


class ProviderFacts(msgspec.Struct, kw_only=True):
    """One provider over all sessions."""

    name: str
    base_url: str | None  # without what may be a secret
    model: str | None
    state: str  # at the end of the last session
    requests: int
    answered: int
    limited: int
    failed: int
    retries: int
    prompt_tokens: int
    completion_tokens: int
    mean_reply_s: float | None
    held_s: float
    opened: int  # times that the breaker opened
    in_flight_max: int
    requests_per_minute: float | None  # in force at the end
    tokens_per_minute: float | None
    usd: float | None


class StepFacts(msgspec.Struct, kw_only=True):
    """One of several steps, over all sessions."""

    name: str
    rows: int  # that were its to ask
    failed: int  # of them
    left_out: int  # of them, by its condition
    requests: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None


class BatchFacts(msgspec.Struct, kw_only=True):
    """One batch."""

    part: int
    number: int  # of the part's try
    batch: str | None
    status: str
    created: float | None
    ended: float | None  # when what it did was here; None: it is under way
    requests: int
    rows: int
    answered: int
    failed: int
    left: int  # rows that had to be asked again


class SessionFacts(msgspec.Struct, kw_only=True):
    """One start of the run."""

    id: str
    started: float
    ended: float | None
    mode: str
    state: str  # "running", "finished", "stopped", "killed"
    words: str  # how it ended
    exit_code: int | None
    elapsed_s: float
    rows: int
    rows_per_s: float
    requests: int
    retries: int
    workers: int
    deaths: int
    cpu_s: float
    notices: list[str]


class NodeFacts(msgspec.Struct, kw_only=True):
    """One machine of a cluster, in one session."""

    node: str
    session: int
    joined_s: float
    left_s: float | None
    why: str | None
    workers: int
    rows: int
    cpu_s: float
    carried_mb: float
    sent_mb: float


class RunDocument(msgspec.Struct, kw_only=True):
    """The whole document."""

    kind: str = "report"
    rowmill_version: str
    made_at: float
    live: bool  # it is served, and there are newer ones
    run: RunFacts
    totals: TotalFacts
    cost: CostFacts | None
    timeline: Timeline
    marks: list[Mark]
    distributions: list[DistributionFacts]  # those that there are
    failures: list[FailureFacts]
    more_failures: tuple[int, int]  # classes that are left out, and their rows
    faults: list[FaultFacts]
    fields: FieldsFacts | None  # None where replies are no objects
    replies: list[ReplyFacts]
    providers: list[ProviderFacts]
    more_providers: int
    steps: list[StepFacts]  # none in a run of one
    more_steps: int
    win_rates: list[WinRates]  # of each two that steps compare; none before the run has finished
    batches: list[BatchFacts]
    more_batches: int
    sessions: list[SessionFacts]
    more_sessions: int
    nodes: list[NodeFacts]
    more_nodes: int
    configuration: list[tuple[str, str]]
    more_configuration: int
    problems: list[str]  # what could not be read, and is missing above
