"""What `rowmill plan` says of a run before it is started, as values."""

import msgspec


class Range(msgspec.Struct, frozen=True):
    """An amount that is not known yet."""

    low: float
    likely: float
    high: float

    def __add__(self, other: "Range") -> "Range":
        """Return the sum. Both may be off to the same side."""
        return Range(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def __mul__(self, factor: float) -> "Range":
        """Return so many times the amount."""
        return Range(self.low * factor, self.likely * factor, self.high * factor)


class PlannedInput(msgspec.Struct, frozen=True, kw_only=True):
    """What is read."""

    path: str
    format: str
    files: int
    size: int  # bytes of the files
    rows: int
    shards: int
    delimiter: str | None = None  # of CSV and TSV, in words


class PlannedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The first request, as it would be sent."""

    api: str
    provider: str
    model: str | None  # None where the row names it
    rows: int  # that go out in it
    body: str  # JSON over several lines, long texts shortened


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What the requests were counted on."""

    rows: int  # that were built into requests
    whole: bool  # these are all rows of the input
    requests: float  # of the whole run, those that find their reply in another's left out
    invalid: float  # rows of the whole input that cannot become requests
    first_invalid: str | None  # which is the first of them, and why
    duplicates: float | None  # requests that are like an earlier one; None where each is asked by itself


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """What the whole run takes."""

    prompt: Range
    reply: Range
    prompt_by: str  # what the figures rest on, in words
    reply_by: str
    measured: bool  # by a trial


class PriceLine(msgspec.Struct, frozen=True, kw_only=True):
    """The price of one model of one provider, in dollars a million tokens."""

    provider: str
    model: str
    input: float | None  # None: not known
    output: float | None
    how_to_set: str | None  # where it is not known


class LivePlan(msgspec.Struct, frozen=True, kw_only=True):
    """The run through the live API."""

    usd: Range | None  # None: a price is not known
    seconds: float | None  # at the configured limits; None: none holds it back


class BatchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The run through the Batch API."""

    problem: str | None  # why the configuration cannot be run so
    provider: str
    usd: Range | None
    discount: float | None  # part of the price; None: not known, or not one for all models
    parts: int  # batches
    waves: int  # of them, one after another, where the enqueued tokens are limited
    seconds: float  # at most, as far as the provider keeps its word


class BudgetPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the budget covers."""

    caps: dict[str, float]  # key of [budget] -> its value
    mode: str  # "live" or "batch": what it was held against
    rows: int | None  # that it covers; None: a cap in dollars, and a price that is not known
    share: float | None  # of all rows, 0 to 1
    first: str | None  # the key of the cap that is met first; None where it covers all


class TrialFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for the estimate."""

    rows: int
    failed: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    output: str
    run_dir: str
    again: bool  # it had been asked before, and cost nothing now


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything."""

    input: PlannedInput
    request: PlannedRequest | None  # None: no row can become one
    counted: Counted
    tokens: Tokens
    prices: list[PriceLine]
    live: LivePlan
    batch: BatchPlan
    budget: BudgetPlan | None
    trial: TrialFigures | None
    notices: list[str]
    presets: list[str] = []  # of each provider that has one: what it gave, in words
    cluster: str | None = None  # what it would do, in words; None where there is none
