"""Every metric that there is: its name, kind, unit, labels and what it tells.

Names, units and attributes are OpenTelemetry's; Prometheus' are made of them as OpenTelemetry says ("Prometheus and
OpenMetrics compatibility"), so that a dashboard fits whichever way they come. Those of requests to models follow
the conventions for generative AI where these have one (`gen_ai.`).
"""

from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]

_SUFFIXES = {"s": "seconds", "By": "bytes"}

# Seconds, of the conventions; further ones behind, for a request may take 600 s.
SECONDS = (
    0.01,
    0.02,
    0.04,
    0.08,
    0.16,
    0.32,
    0.64,
    1.28,
    2.56,
    5.12,
    10.24,
    20.48,
    40.96,
    81.92,
    163.84,
    327.68,
    655.36,
)
# Tokens: the conventions' powers of four, from 64 on less one. Up to there the buckets of `core.histograms` count
# exactly; a 64 and a 67 are the same to them.
TOKENS = (1, 4, 16, *(4**power - 1 for power in range(3, 14)))


class Family(NamedTuple):
    """One metric."""

    name: str  # OpenTelemetry's
    kind: Kind
    unit: str  # of UCUM: "s", "By", "1" for a share, "{...}" for what is only counted
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()  # of a histogram: at most so much

    @property
    def prometheus_unit(self) -> str:
        """The unit at the end of Prometheus' name."""
        if self.unit == "1":
            return "ratio" if self.kind == "gauge" else ""
        return _SUFFIXES.get(self.unit, "")

    @property
    def prometheus(self) -> str:
        """Prometheus' name, without the suffixes that samples have."""
        name, unit = plain(self.name), self.prometheus_unit
        return name if not unit or name.endswith(f"_{unit}") else f"{name}_{unit}"


def plain(name: str) -> str:
    """Return a name of OpenTelemetry's, or of an attribute, as Prometheus has it."""
    return name.replace(".", "_")


_GEN_AI = ("provider", "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model")

ROWS = Family("rowmill.rows", "counter", "{row}", "Rows brought to an outcome on disk.", ("outcome",))
SHARED = Family("rowmill.rows.shared", "counter", "{row}", "Rows answered without a request of their own.", ("source",))
REQUESTS = Family("rowmill.requests", "counter", "{request}", "Requests sent.", ("provider",))
REPLIES = Family("rowmill.replies", "counter", "{reply}", "Valid replies.", ("provider",))
LIMITED = Family("rowmill.requests.limited", "counter", "{request}", "Requests refused by a rate limit.", ("provider",))
RETRIES = Family("rowmill.retries", "counter", "{request}", "Requests that were not their row's first.")
REASKED = Family("rowmill.reasked", "counter", "{request}", "Requests that show a model what was wrong with its reply.")
FAULTS = Family("rowmill.faults", "counter", "{request}", "Requests that failed, by class.", ("error.type",))
DOUBTFUL = Family(
    "rowmill.requests.doubtful", "counter", "{request}", "Requests sent again that the server may have done already."
)
TOKENS_USED = Family(
    "rowmill.tokens",
    "counter",
    "{token}",
    "Tokens that valid replies say they took.",
    ("provider", "gen_ai.token.type"),
)
PACKED = Family("rowmill.rows.packed", "counter", "{row}", "Rows that went out together with others in one request.")
DEATHS = Family("rowmill.worker.deaths", "counter", "{worker}", "Workers that died.")
SEALED = Family("rowmill.shards.sealed", "counter", "{shard}", "Shards whose rows are all done.")
MERGED = Family("rowmill.shards.merged", "counter", "{shard}", "Shards that are in the output.")
CPU = Family("rowmill.cpu", "counter", "s", "CPU time used, by the supervisor and by the workers.", ("process",))

DURATION = Family(
    "gen_ai.client.operation.duration", "histogram", "s", "Time until a valid reply was whole.", _GEN_AI, SECONDS
)
USAGE = Family(
    "gen_ai.client.token.usage",
    "histogram",
    "{token}",
    "Tokens of a valid reply and of its prompt.",
    (*_GEN_AI, "gen_ai.token.type"),
    TOKENS,
)
SLOT_WAIT = Family(
    "rowmill.row.slot_wait", "histogram", "s", "Time from when a row was read until its first try.", (), SECONDS
)
RATE_WAIT = Family(
    "rowmill.row.rate_wait", "histogram", "s", "Of it, time that the next row to go waited for the rate.", (), SECONDS
)

SESSION = Family(
    "rowmill.session.info", "gauge", "{session}", "The session: its run, its number and mode. Always 1.",
    ("run", "session", "mode"),
)  # fmt: skip
BUILD = Family("rowmill.build.info", "gauge", "{build}", "The version that runs. Always 1.", ("version",))
STARTED = Family("rowmill.session.start_time", "gauge", "s", "When the command began, in seconds since 1970.")
INPUT_ROWS = Family("rowmill.run.input.rows", "gauge", "{row}", "Rows of the input, once they are counted.")
RUN_ROWS = Family(
    "rowmill.run.rows", "gauge", "{row}", "Rows with an outcome, of all sessions of the run.", ("outcome",)
)
RUN_REQUESTS = Family("rowmill.run.requests", "gauge", "{request}", "Requests that these rows took.")
RUN_TOKENS = Family(
    "rowmill.run.tokens", "gauge", "{token}", "Tokens that these rows took.", ("gen_ai.token.type",)
)  # fmt: skip
RUN_FAILED = Family(
    "rowmill.run.failed.rows", "gauge", "{row}", "Failed rows by class, once the run is over.", ("error.type",)
)
STEP_ROWS = Family(
    "rowmill.run.step.rows", "gauge", "{row}", "Rows that each of several steps has brought to an outcome.",
    ("step", "outcome"),
)  # fmt: skip
STEP_REQUESTS = Family("rowmill.run.step.requests", "gauge", "{request}", "Requests that these rows took.", ("step",))
STEP_TOKENS = Family(
    "rowmill.run.step.tokens", "gauge", "{token}", "Tokens that these rows took.", ("step", "gen_ai.token.type")
)
STEP_COST = Family(
    "rowmill.run.step.cost.usd", "gauge", "{USD}", "What each of several steps has cost, where all prices are known.",
    ("step",),
)  # fmt: skip
BILLED = ("provider", "model", "mode")
RUN_COST = Family("rowmill.run.cost.usd", "gauge", "{USD}", "What the run has cost, where the price is known.", BILLED)
RUN_BILLED = Family(
    "rowmill.run.billed.tokens", "gauge", "{token}", "Tokens that are paid for; cached_input is part of input.",
    (*BILLED, "gen_ai.token.type"),
)  # fmt: skip
PROJECTED = Family(
    "rowmill.run.cost.projected.usd", "gauge", "{USD}", "What all rows will cost, as far as can be told."
)
LOST = Family(
    "rowmill.run.cost.lost.usd", "gauge", "{USD}", "Requests that may be billed and brought no reply, estimated."
)
RESERVED = Family("rowmill.run.cost.reserved.usd", "gauge", "{USD}", "Held back for batches that are under way.")
SAVED = Family("rowmill.run.saved.usd", "gauge", "{USD}", "What was not spent, by what spared it.", ("source",))
UNPRICED = Family("rowmill.run.unpriced.models", "gauge", "{model}", "Models without a known price.")
BUDGET_USD = Family("rowmill.budget.usd", "gauge", "{USD}", "What the run may spend.")
BUDGET_TOKENS = Family("rowmill.budget.tokens", "gauge", "{token}", "Tokens that the run may take.")
BUDGET_REQUESTS = Family("rowmill.budget.requests", "gauge", "{request}", "Requests that the run may send.")
SPEED = Family("rowmill.rows.rate", "gauge", "{row}/s", "Rows a second, over the last few seconds.")
REMAINING = Family("rowmill.run.remaining", "gauge", "s", "Time until the run is done, at this speed.")
IN_FLIGHT = Family("rowmill.requests.in_flight", "gauge", "{request}", "Requests on the wire.", ("provider",))
ALLOWED = Family(
    "rowmill.requests.allowed", "gauge", "{request}", "Requests that may be on the wire at a time.", ("provider",)
)
LEASED_REQUESTS = Family(
    "rowmill.lease.requests.rate", "gauge", "{request}/s", "Requests a second that may be sent; none without a limit.",
    ("provider",),
)  # fmt: skip
LEASED_TOKENS = Family(
    "rowmill.lease.tokens.rate", "gauge", "{token}/s", "Tokens a second that may be sent; none without a limit.",
    ("provider",),
)  # fmt: skip
STATE = Family("rowmill.provider.state", "gauge", "{provider}", "1 for the state it is in.", ("provider", "state"))
HELD = Family("rowmill.provider.held", "gauge", "s", "Time until the silence ends that it asked for.", ("provider",))
WAITING = Family("rowmill.rows.waiting", "gauge", "{row}", "Rows that wait for their next try.")
WORKERS = Family("rowmill.workers", "gauge", "{worker}", "Workers by state.", ("state",))
WORKER_CPU = Family("rowmill.worker.cpu", "gauge", "1", "Share of one core over the last second.", ("worker",))
WORKER_MEMORY = Family("rowmill.worker.memory", "gauge", "By", "Resident memory.", ("worker",))
WORKER_LAG = Family("rowmill.worker.lag", "gauge", "s", "How late its event loop is.", ("worker",))
MEMORY_USED = Family("rowmill.memory.used", "gauge", "1", "Share of the memory in use, where it runs out first.")
DISK_FREE = Family("rowmill.disk.free", "gauge", "By", "Free space where the run writes.", ("disk",))
DISK_FLOOR = Family("rowmill.disk.floor", "gauge", "By", "With less of it nothing new is sent.", ("disk",))
SLOWED = Family("rowmill.slowed_by", "gauge", "{cause}", "1 for what keeps the run from being faster.", ("cause",))
BATCHES = Family("rowmill.batches", "gauge", "{batch}", "Batches that are not collected, by status.", ("status",))
BATCH_REQUESTS = Family(
    "rowmill.batches.requests", "gauge", "{request}", "Requests of these batches, as the provider counts.", ("state",)
)
BATCH_PARTS = Family("rowmill.batches.parts", "gauge", "{part}", "Parts of a run by batches.", ("state",))
DRAINING = Family("rowmill.session.draining", "gauge", "{session}", "1 while nothing new is begun.")
FINISHED = Family("rowmill.run.finished", "gauge", "{run}", "1 once every row has its line in the output.")
ENDED = Family("rowmill.session.ended", "gauge", "{session}", "1 once the command is done, for the last scrape.")
EXIT_CODE = Family("rowmill.session.exit_code", "gauge", "{code}", "The command's exit code, once it is done.")

FAMILIES: tuple[Family, ...] = tuple(value for value in globals().copy().values() if isinstance(value, Family))
