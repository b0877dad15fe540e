"""The values that travel between the parts: plain data, hardly any behaviour, no I/O.

A row's way in these words: a `Shard` is planned, its lines become `Request`s, a `Request` is sent and answered by
a `Reply`, and every row ends as exactly one `Outcome`, written to a checkpoint.
"""

from collections.abc import Iterable
from typing import Literal, Protocol

import msgspec


class InputFile(msgspec.Struct, frozen=True):
    """One file of the user's input as it was when the run was planned."""

    path: str  # or its URL
    size: int  # bytes
    mtime_ns: int  # 0 where nothing tells


class InputPart(msgspec.Struct, frozen=True, array_like=True):
    """One local file of the input as workers read it. Its rows follow those of the part before."""

    path: str
    kind: Literal["lines", "parquet", "arrow"]  # "lines": one JSON object a line, whatever the user's file was


class Shard(msgspec.Struct, frozen=True, array_like=True):
    """A contiguous range of input rows, all of one part: the unit of assignment, checkpoint and merge."""

    number: int  # from 0, in input order
    first_row: int  # index of its first row, from 0
    rows: int
    start: int  # byte offset of its first row in its part; in Parquet and Arrow files the row's number there
    end: int  # byte offset, or row number, after its last row
    crc: int  # CRC-32 of its bytes, or of what tells that a file is the same: a changed input is found by shard
    part: int = 0  # place of its file among the input's parts


class Column(msgspec.Struct, frozen=True, array_like=True):
    """A column of a table."""

    name: str
    type: Literal["string", "int64", "double", "bool", "json"] = "string"  # "json": any value, as JSON text


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What an output table holds beside the columns that every run has."""

    input_columns: tuple[Column, ...] = ()  # of the input, where they are kept
    fields: tuple[Column, ...] = ()  # of a structured reply: the top members of its schema
    vectors: bool = False  # the output is a vector: base64 of little-endian float32


class Request(msgspec.Struct, frozen=True, gc=False):
    """One row, ready to be sent."""

    body: bytes  # the JSON body
    id: bytes  # the row's id as JSON text; b"null" where the input has none
    tokens: int  # of the body, estimated from its characters: what limits are debited by until the reply says more


# A line that begins so is no row of JSON, but a text: why the source could not make one of the row. The row itself, as
# far as it could be read, may follow behind another one.
BROKEN = b"\0"


class Endpoint(msgspec.Struct, frozen=True):
    """Where a provider's requests go and what they carry. Holds secrets: never logged, never written to a file."""

    provider: str
    base_url: str
    key: str | None
    openai_account: bool  # the server is OpenAI's own, so account settings of the environment may be sent to it
    timeout_s: float
    url: str = ""  # the full URL of the task's requests, as the openai package builds it
    headers: tuple[tuple[str, str], ...] = ()  # every header that the openai package sends, but those of one body
    extra_headers: tuple[tuple[str, str], ...] = ()  # those that the configuration adds to the package's, or puts over
    secrets: tuple[str, ...] = ()  # what must not stand in any message: the key, and header values that are like one

    def __repr__(self) -> str:  # the default would show the secrets
        """Name the endpoint without its secrets."""
        return f"Endpoint({self.provider!r}, {self.base_url!r})"


class HeaderLookup(Protocol):
    """Reads one response header by name, in any case; None where it is absent."""

    def __call__(self, name: str, /) -> str | None:
        """Return the header's value."""


class Reply(msgspec.Struct, gc=False):
    """What a server answered, whatever it was."""

    status: int
    body: bytes
    header: HeaderLookup


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What a task read out of a valid reply.

    The bytes are JSON text, as the server wrote it: nothing is decoded that is only to be written again.
    """

    output: bytes  # for chat the text of the message, as a JSON string
    finish_reason: bytes
    model: bytes
    usage: bytes
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0  # of the prompt's, those that the provider had cached: they are cheaper


class FaultClass(msgspec.Struct, frozen=True):
    """One line of the fault table (`transport.faults`): what a kind of failure means for the row and the run."""

    name: str
    retryable: bool
    scope: Literal["row", "provider"]  # "provider": what failed here would fail every row
    spends_attempt: bool
    lowers_concurrency: bool
    sick: bool  # speaks against the provider's health: the breaker counts it


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why one try, or in the end one row, failed."""

    fault: FaultClass
    message: str
    code: str | None = None  # the provider's own error code or type
    status: int | None = None  # HTTP status, None where no reply arrived
    retry_after: float | None = None  # seconds the server asked to wait, None where it did not say
    reply: bytes | None = None  # of invalid_output: the content as it came, a JSON string
    maybe_billed: bool = False  # the server may have done the work although no reply arrived

    @property
    def reason(self) -> str:
        """The failure in a line, for people."""
        status = f"HTTP {self.status}, " if self.status else ""
        return f"{self.fault.name} ({status}{self.message})"


class Totals(msgspec.Struct):
    """What recorded outcomes add up to. Rebuilt from checkpoints, so it survives every crash."""

    rows: int = 0  # recorded rows, failed ones included
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    requests: int = 0  # requests that recorded rows took, the failed tries included

    def add(self, other: "Totals") -> None:
        """Add the other's figures to these."""
        self.rows += other.rows
        self.failed += other.failed
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.requests += other.requests


class Spent(msgspec.Struct):
    """What requests have cost, in tokens."""

    requests: int = 0
    prompt_tokens: int = 0  # the cached ones included
    cached_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        """All tokens that are paid for."""
        return self.prompt_tokens + self.completion_tokens

    @classmethod
    def total(cls, parts: Iterable["Spent"]) -> "Spent":
        """Return all of these together."""
        whole = cls()
        for part in parts:
            whole.add(part)
        return whole

    def add(self, other: "Spent") -> None:
        """Add the other's figures to these."""
        self.requests += other.requests
        self.prompt_tokens += other.prompt_tokens
        self.cached_tokens += other.cached_tokens
        self.completion_tokens += other.completion_tokens


class Price(msgspec.Struct, frozen=True):
    """What one model of one provider costs, in dollars a million tokens."""

    input: float
    output: float
    cached_input: float
    batch_discount: float = 0.5  # part of the price that the Batch API takes off

    def usd(self, spent: Spent, *, batch: bool = False) -> float:
        """Return what this costs, in dollars."""
        whole = (
            (spent.prompt_tokens - spent.cached_tokens) * self.input
            + spent.cached_tokens * self.cached_input
            + spent.completion_tokens * self.output
        ) / 1e6
        return whole * (1.0 - self.batch_discount) if batch else whole


class Amount(msgspec.Struct, frozen=True, array_like=True):
    """Some of each thing that a budget can limit: what is spent, reserved, allowed or needed."""

    requests: float = 0.0
    tokens: float = 0.0
    usd: float = 0.0

    def __add__(self, other: "Amount") -> "Amount":
        """Return both together."""
        return Amount(self.requests + other.requests, self.tokens + other.tokens, self.usd + other.usd)

    def __sub__(self, other: "Amount") -> "Amount":
        """Return what is left without the other."""
        return Amount(self.requests - other.requests, self.tokens - other.tokens, self.usd - other.usd)


class BatchView(msgspec.Struct, frozen=True):
    """One batch at the provider, as the progress display shows it."""

    part: int
    attempt: int  # 1 for a part's first batch
    batch: str  # the provider's id; "" before it is created
    status: str  # the provider's word, or "building", "uploading", "waiting", "collecting" for what is done here
    requests: int
    completed: int  # of them, as the provider counts
    failed: int


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
    hold_until: float = 0.0  # the provider asked for silence until then
    closed: bool = False  # the provider is done with for the rest of the session
    failing: bool = False  # its breaker is open: what is allowed is a probe


class LimitSample(msgspec.Struct, frozen=True, array_like=True):
    """One of a server's `x-ratelimit-*` triples: what it says of one of its buckets."""

    limit: float  # units a period
    remaining: float  # units left of them
    reset_s: float  # seconds until all of them are there again


class ProviderReport(msgspec.Struct, array_like=True):
    """What a worker tells of one provider, four times a second. Sums count from the start of the worker process."""

    requests: int = 0  # sent
    answered: int = 0  # valid replies
    limited: int = 0  # 429s
    lost: int = 0  # results of a class that lowers concurrency: 429s, 503s, timeouts, resets
    sick: int = 0  # results that speak against the provider's health: 5xx, timeouts, resets; no 429
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
    # How it stands now:
    lease: int = 0  # serial of the lease in force
    in_flight: int = 0
    busy: float = 0.0  # of the time since the last report, the share in which every slot of the lease was in use
    wants_rate: bool = False  # since the last report a row waited for the requests or tokens of the lease
    wants_slots: bool = False  # since the last report a row waited for a slot of the lease
    idle: bool = False  # there is no row in hand that could be sent now
    largest: int = 0  # tokens of the largest request since the last report
    trouble: str = ""  # the latest failure since the last report that speaks against the provider's health
    requests_limit: LimitSample | None = None  # the latest that replies said
    tokens_limit: LimitSample | None = None


class Counters(msgspec.Struct):
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

    def add(self, other: "Counters") -> None:
        """Add the other's figures to these."""
        self.rows += other.rows
        self.cached += other.cached
        self.duplicates += other.duplicates
        self.reasked += other.reasked
        self.packed += other.packed
        self.tokens_saved += other.tokens_saved
        self.spared.add(other.spared)
        self.requests += other.requests
        self.replies += other.replies
        self.retries += other.retries
        self.maybe_billed_twice += other.maybe_billed_twice
        for name, count in other.faults.items():
            self.faults[name] = self.faults.get(name, 0) + count


class SimulatorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the embedded endpoint behaves; `[simulator]` in the config, flags of `rowmill simulate`."""

    latency_ms: float = 50.0  # median of the log-normal reply time
    latency_sigma: float = 0.3  # spread of the log-normal; 0 makes every reply take the median
    per_token_ms: float = 0.0  # added to it for each token of the reply
    reply_tokens: float = 0.0  # mean of the log-normal reply length; 0 keeps replies to one line
    requests_per_minute: float | None = None  # enforced strictly, by each API path prefix on its own; None is no limit
    tokens_per_minute: float | None = None
    parallel: int | None = None  # requests worked on at a time, the others wait in line; None is no limit
    queue: int | None = None  # requests that may wait in that line, more get a 429; None is no limit
    knee: float | None = None  # in flight above it every reply takes (in flight / knee)**2 times as long
    limit_headers: bool = True  # replies carry `x-ratelimit-*` where there is a limit
    retry_after: bool = True  # what a limit refuses is told when to come back
    faults: dict[str, float] = msgspec.field(default_factory=dict)  # fault name -> share of requests, 0 to 1
    content_faults: dict[str, float] = msgspec.field(default_factory=dict)  # name -> share of replies in JSON, 0 to 1
    script: tuple[str, ...] = ()  # fault names, one for each request from the first on ("ok" for none)
    batch_s: float = 1.0  # from a batch's creation until it is completed
    batches: bool = True  # there are `/v1/files` and `/v1/batches`; without, they answer 404
    batch_script: tuple[str, ...] = ()  # what becomes of the batches, from the first one created on ("ok": no fault)
    upload_script: tuple[str, ...] = ()  # what becomes of uploaded files, from the first one on
    batch_faults: dict[str, float] = {}  # fault name -> share of the lines of batches
    batch_enqueued_tokens: int | None = None  # prompt tokens that batches may have enqueued at a time; None: no limit
    state: str | None = None  # directory in which files and batches outlive the process; None: a temporary one
    hang_s: float = 3600.0  # how long a hung request is held open
    seed: int = 0
    # Path prefix -> its settings, whole: nothing is inherited but from the defaults above.
    providers: dict[str, "SimulatorSettings"] = msgspec.field(default_factory=dict)
