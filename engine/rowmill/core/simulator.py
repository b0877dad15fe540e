"""How the embedded simulator is to behave."""

import msgspec


class SimulatorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[simulator]`: how the embedded endpoint behaves; the flags of `rowmill simulate` are the same."""

    latency_ms: float = 50.0  # median of the log-normal reply time
    latency_sigma: float = 0.3  # spread of the log-normal; 0 makes every reply take the median
    per_token_ms: float = 0.0  # added to the reply time for each token of the reply
    reply_tokens: float = 0.0  # mean of the log-normal reply length; 0 keeps replies to one line
    requests_per_minute: float | None = None  # enforced strictly, by each API path prefix on its own; None is no limit
    tokens_per_minute: float | None = None  # as requests_per_minute, of tokens
    parallel: int | None = None  # requests worked on at a time, the others wait in line; None is no limit
    queue: int | None = None  # requests that may wait in line (with parallel), more get a 429; None is no limit
    knee: float | None = None  # with more in flight every reply takes (in flight / knee)² times as long
    limit_headers: bool = True  # replies carry `x-ratelimit-*` where there is a limit
    retry_after: bool = True  # what a limit refuses is told when to come back
    faults: dict[str, float] = msgspec.field(default_factory=dict)  # fault name -> share of requests, 0 to 1
    content_faults: dict[str, float] = msgspec.field(default_factory=dict)  # name -> share of replies in JSON, 0 to 1
    script: tuple[str, ...] = ()  # fault names, one for each request from the first on ("ok" for none)
    # What of requests it does not take: "whole" replies, "stream_options", "json_schema", "json_object", "tools".
    refuse: tuple[str, ...] = ()
    batch_s: float = 1.0  # from a batch's creation until it is completed
    batch_script: tuple[str, ...] = ()  # what becomes of the batches, from the first one created on ("ok": no fault)
    upload_script: tuple[str, ...] = ()  # what becomes of uploaded files, from the first one on
    batch_faults: dict[str, float] = {}  # fault name -> share of the lines of batches
    batch_enqueued_tokens: int | None = None  # prompt tokens that batches may have enqueued at a time; None: no limit
    batches: bool = True  # there are `/v1/files` and `/v1/batches`; without, they answer 404
    state: str | None = None  # directory in which files and batches outlive the process; None: a temporary one
    hang_s: float = 3600.0  # how long a hung request is held open
    seed: int = 0  # of latencies and faults
    # Path prefix -> its settings, whole: nothing is inherited but from the defaults above.
    providers: dict[str, "SimulatorSettings"] = msgspec.field(default_factory=dict)


# The numbers that have no bound but 0.
NOT_NEGATIVE = tuple(field.name for field in msgspec.structs.fields(SimulatorSettings) if field.type is float)
