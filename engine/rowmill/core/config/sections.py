"""The sections of a configuration, as frozen values."""

import glob
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from rowmill.core.request_form import FormPart, RequestForm, SchemaForm
from rowmill.core.simulator import SimulatorSettings
from rowmill.core.wire import TEXTS

OPENAI_URL = "https://api.openai.com/v1"
ReplyPart = Literal["reasoning", "tool_calls", "logprobs", "choices", "message"]
REPLY_PARTS: tuple[ReplyPart, ...] = get_args(ReplyPart)  # in the order of their columns
SIMULATOR = "simulator"  # the base_url that starts the embedded endpoint for the run


class _ConfigSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class InputConfig(_ConfigSection, frozen=True):
    """`[input]`: where the rows are, and how they are read."""

    path: str  # a file, a directory, a glob, or a URL of a file system, as "s3://bucket/rows.parquet"
    # "auto": by name and content; "json" is an array, or objects over several lines; "xlsx" any workbook
    format: Literal["auto", "jsonl", "json", "csv", "tsv", "xlsx", "parquet", "arrow", "batch"] = "auto"
    id: str | None = None  # the column copied to "id" of the output line
    encoding: str = "auto"  # of text files; "auto": UTF-8, and a file that is plainly something else is refused
    delimiter: str | None = None  # of CSV and TSV files, between fields; None: told by their first rows
    sheet: str | None = None  # which one of a workbook is read; None: the first one that is shown
    split: str | None = None  # which one is read of a dataset's directory that has several
    images_dir: str | None = None  # where the image files lie that rows name: no other is read; None: beside the input

    documents_dir: str | None = None  # the same of the documents that rows name

    @property
    def images_root(self) -> Path | None:
        """The directory with the image files; None where no file of this machine may be read."""
        return self._beside(self.images_dir)

    @property
    def documents_root(self) -> Path | None:
        """The directory with the documents; None where no file of this machine may be read."""
        return self._beside(self.documents_dir)

    def _beside(self, named: str | None) -> Path | None:
        if named is not None:
            return Path(named).expanduser()
        if "://" in self.path:
            return None
        path = Path(self.path)
        if path.is_dir():
            return path
        fixed = takewhile(lambda part: not glob.has_magic(part), path.parts[:-1])
        return Path(*(path.parts[:-1] if path.exists() else fixed))

    @property
    def codec(self) -> str:
        """The encoding that text files are read by."""
        return "utf-8" if self.encoding == "auto" else self.encoding

    @property
    def separator(self) -> str | None:
        """The delimiter; a tab may be written as a shell passes it on."""
        return "\t" if self.delimiter in ("\\t", "tab") else self.delimiter


class ModelSchema(msgspec.Struct, frozen=True, array_like=True):
    """A type of Python that replies are read as: a pydantic model, or what else pydantic takes. No file holds one."""

    name: str  # "package.module:Model", or as a program calls it
    document: dict[str, Any]  # the JSON Schema that replies are held against, an object's
    asked: dict[str, Any]  # the same as providers are asked for it
    wrapped: bool  # the type is no object's: its value is the member "value"
    source: str  # a digest of what is written of it: another one may take other replies
    code: bytes | None = None  # the type itself, pickled; None: imported by its name; empty: only its program has it

    @property
    def identity(self) -> list[Any]:
        """All that decides what replies it takes."""
        return [self.name, self.document, self.source]


class TaskConfig(_ConfigSection, frozen=True):
    """`[task]`: what is asked about every row."""

    # "batch": the Batch API; "auto": that, and the live API for what is not there near batch.deadline_s.
    mode: Literal["live", "batch", "auto"] = "live"
    # Which of the provider's APIs is asked.
    api: Literal["chat.completions", "responses", "completions", "embeddings", "moderations"] = "chat.completions"
    model: str | None = None  # asked of every provider that names none of its own; a batch file's lines name theirs
    prompt: str | None = None  # "{column}" stands for the row's column, "{{" and "}}" for braces
    system: str | None = None  # the system message, with columns as in the prompt
    # How prompt, system and messages are written: {column}, or as Jinja2 has it.
    template: Literal["format", "jinja"] = "format"
    messages: str | list[dict[str, Any]] | None = None  # a column with a list of messages, or messages as templates
    images: list[str] = []  # columns with the URL or the local file of an image, sent after the prompt
    # Name in the prompt -> column with the path of a document (PDF, .docx, HTML, text), whose text stands there.
    documents: dict[str, str] = {}
    document_pages: int = 100  # of one document that are taken at most, where it has pages
    document_characters: int = 200_000  # of one document that are taken at most
    per_row: dict[str, str] = {}  # member of the request, "model" included -> column that holds it, where not null
    params: dict[str, Any] = msgspec.field(default_factory=dict)  # any further members of the request body
    # JSON Schema of the reply: a file's path, or the schema itself; or "package.module:Model", a pydantic model.
    schema: str | dict[str, Any] | ModelSchema | None = None
    strict_json: bool = False  # with a schema: take a reply that is JSON and nothing else, no text around it
    fail_on_finish: list[str] = []  # finish reasons of replies that count as failures, as "content_filter", "length"
    rows_per_request: int | Literal["auto"] = "auto"  # rows in one request; "auto": 1, and 64 for embeddings

    @property
    def packs(self) -> bool:
        """Whether rows share chat requests, whose replies then have a schema."""
        return self.api == "chat.completions" and isinstance(self.rows_per_request, int) and self.rows_per_request > 1

    @property
    def reply_schema(self) -> dict[str, Any] | None:
        """The JSON Schema that replies are held against; None where there is none, or its file has not been read."""
        if isinstance(self.schema, ModelSchema):
            return self.schema.document
        return None if isinstance(self.schema, str) else self.schema


class StepConfig(TaskConfig, frozen=True, kw_only=True):
    """`[[step]]`: one of several questions, in their order; beside these every key of `[task]`, whose values it has."""

    name: str  # of the column that its replies become for the steps behind it
    provider: str | list[str] | None = None  # who is asked in this step, by name; left out: all
    where: str | None = None  # which answered rows go on, as "score >= 4 and lang = en"; left out: all
    # Two steps before it, or columns, in the order in which its prompt shows them, of which its reply says which is
    # better: "first", "second" or "tie", by itself or as the member "winner". Who wins is told at the end.
    compares: list[str] = []


class ProviderConfig(_ConfigSection, frozen=True):
    """`[[provider]]`: a server that is asked; one such section for each."""

    name: str = "default"  # by which reports, logs and other keys call it; with a preset: the preset's
    # A provider that is known by name ("groq", "azure", "ollama"), which gives base_url and api_key_env where they are
    # left out: docs/providers.md has all.
    preset: str | None = None
    host: str | None = None  # with a preset: where its server is instead; of Azure: the name of the resource
    api_version: str | None = None  # with preset "azure": the dated API, whose path names the deployment; None: v1
    base_url: str = OPENAI_URL  # the API's own URL, mostly with /v1; "simulator": the embedded one
    # The environment variable with its key, which may stand in .env beside the configuration instead; None: the
    # preset's, OPENAI_API_KEY for OpenAI, else no key.
    api_key_env: str | None = None
    model: str | None = None  # in the place of task.model
    weight: float = 1.0  # its part of the rows, beside the others' weights; 0: only as a fallback
    requests_per_minute: float | None = None  # the limit that it enforces; None: what its replies say, if anything
    tokens_per_minute: float | None = None  # as requests_per_minute, of the tokens of prompts and replies together
    requests_per_day: float | None = None  # as requests_per_minute, of a day
    tokens_per_day: float | None = None  # as tokens_per_minute, of a day
    timeout_s: float = 600.0  # for a whole request, from sending to the last byte of the reply
    # Whether replies are asked for as streams, and put together again. "auto": where the server wants it so.
    stream: bool | Literal["auto"] = "auto"
    # How replies are asked for that fit task.schema: by the schema; by "json_object" or a "tool" with the schema; in
    # the "prompt" alone. "auto": by the schema, and by the next of these where the server refuses one.
    schema_by: Literal["auto"] | SchemaForm = "auto"
    headers: dict[str, str] = {}  # more headers, sent with every request; nothing that is a secret
    ca_file: str | None = None  # certificates in PEM of who vouches for its server, beside the machine's own
    cert_file: str | None = None  # this side's certificate in PEM, for a server that wants one of its clients
    key_file: str | None = None  # its key; left out: it stands in cert_file, too
    headers_env: dict[str, str] = {}  # header -> environment variable that holds its value, which is a secret
    fallback: list[str] = []  # providers that take what fails here for good, by name, the first choice first
    # Permanent failures of a row that send it there. Where a provider is closed, all of its rows go there.
    fallback_on: list[Literal["context_length", "content_filter", "invalid_request", "finish_reason"]] = msgspec.field(
        default_factory=lambda: ["context_length", "content_filter"]
    )

    @property
    def form(self) -> RequestForm:
        """How its requests are formed, as far as the configuration says it."""
        schema = "json_schema" if self.schema_by == "auto" else self.schema_by
        return RequestForm(stream=self.stream is True, schema=schema)


class ClientConfig(_ConfigSection, frozen=True):
    """`[client]`: how requests are sent."""

    transport: Literal["direct", "sdk"] = "direct"  # "sdk": requests go out by the openai package, at 70 times the CPU
    ca_file: str | None = None  # as provider.ca_file, for every provider that names none


class WorkersConfig(_ConfigSection, frozen=True):
    """`[workers]`: the processes that ask."""

    count: int | Literal["auto"] = "auto"  # processes; "auto" is one for each core
    concurrency: int | Literal["auto"] = "auto"  # most requests in flight, for each worker; "auto" finds it out


class RetryConfig(_ConfigSection, frozen=True):
    """`[retry]`: how often a row is asked again."""

    attempts: int = 6  # tries of a row, the first one included; a 429 spends none, but where others are let through
    deadline_s: float = 86_400.0  # no row waits for another try longer than this from its first one
    share: float = 0.1  # retries are at most this part of all requests, plus retry.floor_per_s
    floor_per_s: float = 10.0  # so many retries a second are allowed beside retry.share, over all workers
    invalid_output: int = 3  # times that a row is asked until its reply fits the schema, the first one included
    # Finish reasons of replies for which a row is asked once more: "length" with more tokens than it had.
    on_finish: list[str] = []
    max_tokens_factor: float = 2.0  # with "length" in on_finish: times as many tokens it has then

    @property
    def grows(self) -> bool:
        """Whether what is cut off is asked for with more room."""
        return "length" in self.on_finish


class PriceConfig(_ConfigSection, frozen=True):
    """`[prices]`: what one model costs, in dollars a million tokens; what is left out is as published."""

    input: float | None = None  # the price of prompt tokens
    cached_input: float | None = None  # of prompt tokens that its cache had; not published either: as input
    output: float | None = None  # the price of reply tokens
    batch_discount: float | None = None  # part of the price that the Batch API takes off; 0.5 where nobody says


class BudgetConfig(_ConfigSection, frozen=True):
    """`[budget]`: what the whole run may spend, resumes included."""

    max_usd: float | None = None  # dollars that may be spent; needs prices that are known
    max_tokens: float | None = None  # tokens that may be spent, of prompts and replies together
    max_requests: float | None = None  # requests that may be sent, retries included

    @property
    def limited(self) -> bool:
        """Whether anything is."""
        return (self.max_usd, self.max_tokens, self.max_requests) != (None, None, None)


class BatchConfig(_ConfigSection, frozen=True):
    """`[batch]`: how the Batch API is used, where task.mode asks for it."""

    provider: str | None = None  # the one whose Batch API is used; left out: the first one
    deadline_s: float | None = None  # with mode "auto": all answers are there so long after the run's first start
    max_requests: int = 50_000  # that go into one batch at most
    max_mb: float = 200.0  # megabytes that the file of one batch has at most
    enqueued_tokens: float | None = None  # prompt tokens that may be enqueued at a time; None: no limit is known
    poll_s: float = 5.0  # seconds between the first two looks at a batch; the pauses grow
    poll_max_s: float = 60.0  # seconds between two looks at most
    stuck_s: float = 93_600.0  # a batch that is not over so long after its creation is cancelled, its rest asked again


class NotifyConfig(_ConfigSection, frozen=True):
    """`[notify]`: who is told how the run goes, while nobody looks."""

    # What is told: "end": every row has its result; "stop": the run has ended before that; "budget": a cap is nearly
    # reached; "trouble": a provider is closed, or has let no request through for a minute.
    on: list[Literal["end", "stop", "budget", "trouble"]] = msgspec.field(
        default_factory=lambda: ["end", "stop", "budget"]
    )
    command: str | list[str] | None = None  # a program with its arguments that is told; a text is a line for the shell
    webhook: str | None = None  # the URL that is told, by POST
    url_env: str | None = None  # in the place of webhook: the environment variable with a URL that is a secret
    headers_env: dict[str, str] = {}  # of the webhook: header -> environment variable that holds its value
    timeout_s: float = 10.0  # seconds that command and webhook may each take, and that the end waits for them
    budget_at: float = 0.8  # part of a cap of [budget] from which on "budget" is told

    @property
    def used(self) -> bool:
        """Whether anybody is told."""
        return (self.command, self.webhook, self.url_env) != (None, None, None)


class MachineConfig(_ConfigSection, frozen=True):
    """`[machine]`: what the run may take of this machine."""

    memory: float = 0.9  # with more of the machine's memory in use, less is kept in flight: a part of it, 0 to 1
    min_free_mb: int | Literal["auto"] = "auto"  # free disk space in megabytes below which nothing new is sent


class MetricsConfig(_ConfigSection, frozen=True):
    """`[metrics]`: what monitoring is told; off unless there is a port or a collector."""

    port: int | None = None  # where Prometheus may scrape; 0: any free one, which the log tells
    host: str = "127.0.0.1"  # the address of this machine that it listens at
    linger_s: float = 0.0  # how long it stays after the end, for a last scrape
    otlp: str | None = None  # the URL of a collector; "environment": as OTEL_EXPORTER_OTLP_ENDPOINT has it
    interval_s: float | None = None  # between two pushes; None: as OTEL_METRIC_EXPORT_INTERVAL has it, else 60
    headers_env: dict[str, str] = {}  # of a push: header -> environment variable that holds its value, a secret

    @property
    def used(self) -> bool:
        """Whether anything is told."""
        return self.port is not None or self.otlp is not None


class ClusterConfig(_ConfigSection, frozen=True):
    """`[cluster]`: the workers on the machines of a cluster, instead of on this one alone."""

    engine: Literal["none", "ray"] = "none"  # "none": this machine; "ray": the nodes of a Ray cluster
    address: str | None = None  # of the cluster; left out: the environment's (RAY_ADDRESS), else one is started here
    # How many are used at most, and asked of an autoscaler; left out: all that there are or that join.
    nodes: int | None = None
    workers_per_node: int | Literal["auto"] = "auto"  # "auto": as many as a node has CPUs free for
    cpus_per_worker: float = 1.0  # CPUs that the cluster counts for each worker
    resources: dict[str, float] = {}  # more that a node must have to be used, by name
    runtime_env: dict[str, Any] = {}  # environment of the processes on the nodes, as Ray takes it
    # "auto": nodes read rows themselves where they reach the files; "carry": they never do.
    input: Literal["auto", "carry"] = "auto"

    @property
    def used(self) -> bool:
        """Whether there is one."""
        return self.engine != "none"


class CheckpointConfig(_ConfigSection, frozen=True):
    """`[checkpoint]`: where and how safely the run keeps what was answered."""

    dir: str | None = None  # the run directory; "<output.path>.run" where left out
    commit_ms: int = 100  # at most this long after its reply a row is safe on disk
    mode: str = "0700"  # who may look into the run directory, as chmod takes it; "2770" shares it with a group

    @property
    def directory_mode(self) -> int:
        """The mode of a run directory that is made."""
        return int(self.mode, 8)


class CacheConfig(_ConfigSection, frozen=True):
    """`[cache]`: whether rows that ask the very same are asked once."""

    use: Literal["off", "run", "disk"] = "off"  # "run": identical rows of a run are sent once; "disk": of all runs
    dir: str = "~/.cache/rowmill"  # where "disk" keeps replies
    max_mb: int = 1024  # of kept replies at most; the oldest give way


class OutputConfig(_ConfigSection, frozen=True):
    """`[output]`: where the replies go, and what is written of them."""

    path: str  # a file, a directory (for Parquet parts; ends with "/"), or a URL of a file system
    format: Literal["auto", "jsonl", "csv", "parquet", "batch"] = "auto"  # "auto": by the name
    errors: str | None = None  # "<output>.errors.jsonl" where left out
    # More in every line: the row itself, who answered it and how, parts of the reply beside its text.
    include: list[Literal["input", "meta"] | ReplyPart] = []
    escape_formulas: bool = False  # CSV: "'" before a text that a spreadsheet would take for a formula

    @property
    def parts(self) -> tuple[ReplyPart, ...]:
        """What is kept of a reply beside its text, in the order of the columns; nothing where it is kept whole."""
        return () if self.format == "batch" else tuple(part for part in REPLY_PARTS if part in self.include)


class Config(_ConfigSection, frozen=True, kw_only=True):
    """A whole configuration, checked."""

    input: InputConfig
    task: TaskConfig = TaskConfig()  # a batch file says itself what is asked
    output: OutputConfig
    provider: list[ProviderConfig] = msgspec.field(default_factory=lambda: [ProviderConfig()])
    step: list[StepConfig] = []
    client: ClientConfig = ClientConfig()
    workers: WorkersConfig = WorkersConfig()
    retry: RetryConfig = RetryConfig()
    machine: MachineConfig = MachineConfig()
    cluster: ClusterConfig = ClusterConfig()
    metrics: MetricsConfig = MetricsConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    cache: CacheConfig = CacheConfig()
    budget: BudgetConfig = BudgetConfig()
    batch: BatchConfig = BatchConfig()
    notify: NotifyConfig = NotifyConfig()
    simulator: SimulatorSettings = SimulatorSettings()
    prices: dict[str, PriceConfig] = {}  # by the model's name as the provider is asked, or by "PROVIDER/MODEL"

    @property
    def tasks(self) -> Sequence[TaskConfig]:
        """What is asked: of each step, or, without steps, of the run."""
        return self.step or [self.task]

    def model_of(self, provider: ProviderConfig) -> str | None:
        """Return the model that this provider is asked for; None where the rows name theirs."""
        return self.task.model if provider.model is None else provider.model

    @property
    def batch_provider(self) -> ProviderConfig:
        """The provider whose Batch API is used."""
        return next((each for each in self.provider if each.name == self.batch.provider), self.provider[0])

    def open_parts(self, provider: ProviderConfig) -> frozenset[FormPart]:
        """Return what of the form of this provider's requests may be changed where it is refused."""
        if self.task.api not in TEXTS:
            return frozenset()
        parts: set[FormPart] = {"usage"}
        if provider.stream == "auto":
            parts.add("whole")
        # Only where replies are held against the schema whatever they were asked by.
        if provider.schema_by == "auto" and (self.task.schema is not None or self.task.packs):
            parts.add("schema")
        return frozenset(parts)

    @property
    def minds_ends(self) -> bool:
        """Whether it is of matter how replies end."""
        return bool(self.retry.on_finish or self.task.fail_on_finish)

    @property
    def names_models(self) -> bool:
        """Whether rows name the models that they are sent to, so that nobody knows them all before."""
        return "model" in self.task.per_row or any(self.model_of(provider) is None for provider in self.provider)

    @property
    def input_path(self) -> Path:
        """The input file."""
        return Path(self.input.path)

    @property
    def output_path(self) -> Path:
        """The output file."""
        return Path(self.output.path)

    @property
    def errors_path(self) -> Path:
        """The file that lists the failed rows."""
        if self.output.errors is not None:
            return Path(self.output.errors)
        return self.output_path.with_name(self.output_path.stem + ".errors.jsonl")

    @property
    def run_dir(self) -> Path:
        """The run directory."""
        if self.checkpoint.dir is not None:
            return Path(self.checkpoint.dir)
        path = self.output.path.rstrip("/")
        return Path((path.rpartition("/")[2] if "://" in path else path) + ".run")
