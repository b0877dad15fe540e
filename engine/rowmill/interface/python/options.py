"""The keyword options of `rowmill.map`, with their types: an editor completes them, a type checker finds a slip.

They are the keys of `[task]`, `[input]` and `[[provider]]` by their names, and the other sections as dicts. What each
means stands in `core/config/sections.py`; a test holds that these here are the same.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from rowmill.core.config.sections import ReplyPart
from rowmill.interface.python.answer_columns import Figure

Api = Literal["chat.completions", "responses", "completions", "embeddings", "moderations"]


class TaskOptions(TypedDict, total=False):
    """Keys of `[task]`."""

    mode: Literal["live", "batch", "auto"]
    api: Api
    model: str | None
    prompt: str | None
    system: str | None
    template: Literal["format", "jinja"]
    messages: str | Sequence[Mapping[str, Any]] | None
    images: Sequence[str]
    documents: Mapping[str, str]
    document_pages: int
    document_characters: int
    per_row: Mapping[str, str]
    params: Mapping[str, Any]
    strict_json: bool
    fail_on_finish: Sequence[str]
    rows_per_request: int | Literal["auto"]


class ProviderOptions(TypedDict, total=False):
    """Keys of one `[[provider]]`."""

    name: str
    preset: str | None
    host: str | None
    api_version: str | None
    base_url: str | None
    api_key_env: str | None
    weight: float
    requests_per_minute: float | None
    tokens_per_minute: float | None
    requests_per_day: float | None
    tokens_per_day: float | None
    timeout_s: float
    stream: bool | Literal["auto"]
    schema_by: Literal["auto", "json_schema", "json_object", "tool", "prompt"]
    headers: Mapping[str, str]
    ca_file: str | os.PathLike[str] | None
    cert_file: str | os.PathLike[str] | None
    key_file: str | os.PathLike[str] | None
    headers_env: Mapping[str, str]
    fallback: Sequence[str]
    fallback_on: Sequence[Literal["context_length", "content_filter", "invalid_request", "finish_reason"]]


class OneProvider(ProviderOptions, total=False):
    """One of several, as `provider=[...]` has them."""

    model: str | None


class ClientOptions(TypedDict, total=False):
    """`[client]`."""

    transport: Literal["direct", "sdk"]
    ca_file: str | os.PathLike[str] | None


class WorkersOptions(TypedDict, total=False):
    """`[workers]`."""

    count: int | Literal["auto"]
    concurrency: int | Literal["auto"]


class RetryOptions(TypedDict, total=False):
    """`[retry]`."""

    attempts: int
    deadline_s: float
    share: float
    floor_per_s: float
    invalid_output: int
    on_finish: Sequence[str]
    max_tokens_factor: float


class MachineOptions(TypedDict, total=False):
    """`[machine]`."""

    memory: float
    min_free_mb: int | Literal["auto"]


class MetricsOptions(TypedDict, total=False):
    """`[metrics]`."""

    port: int | None
    host: str
    linger_s: float
    otlp: str | None
    interval_s: float | None
    headers_env: Mapping[str, str]


class ClusterOptions(TypedDict, total=False):
    """`[cluster]`."""

    engine: Literal["none", "ray"]
    address: str | None
    nodes: int | None
    workers_per_node: int | Literal["auto"]
    cpus_per_worker: float
    resources: Mapping[str, float]
    runtime_env: Mapping[str, Any]
    input: Literal["auto", "carry"]


class CheckpointOptions(TypedDict, total=False):
    """`[checkpoint]`, but for `dir`, which is made of `run_dir`."""

    commit_ms: int
    mode: str


class CacheOptions(TypedDict, total=False):
    """`[cache]`."""

    use: Literal["off", "run", "disk"]
    dir: str | os.PathLike[str]
    max_mb: int


class BudgetOptions(TypedDict, total=False):
    """`[budget]`."""

    max_usd: float | None
    max_tokens: float | None
    max_requests: float | None


class BatchOptions(TypedDict, total=False):
    """`[batch]`."""

    provider: str | None
    deadline_s: float | None
    max_requests: int
    max_mb: float
    enqueued_tokens: float | None
    poll_s: float
    poll_max_s: float
    stuck_s: float


class NotifyOptions(TypedDict, total=False):
    """`[notify]`."""

    on: Sequence[Literal["end", "stop", "budget", "trouble"]]
    command: str | Sequence[str] | None
    webhook: str | None
    url_env: str | None
    headers_env: Mapping[str, str]
    timeout_s: float
    budget_at: float


class PriceOptions(TypedDict, total=False):
    """One model of `[prices]`."""

    input: float | None
    cached_input: float | None
    output: float | None
    batch_discount: float | None


class CallOptions(TypedDict, total=False):
    """What belongs to the call, and to no section."""

    id: str | None
    images_dir: str | os.PathLike[str]
    documents_dir: str | os.PathLike[str]
    run_dir: str | os.PathLike[str] | None
    retry_failed: bool
    fresh: bool
    limit: int | None
    sample: int | None
    prefix: str
    include: Sequence[ReplyPart | Figure]
    progress: bool | None


class MapOptions(CallOptions, TaskOptions, ProviderOptions, total=False):
    """All keyword options of a `rowmill.map` but its schema."""

    provider: Sequence[OneProvider]
    client: ClientOptions
    workers: WorkersOptions
    retry: RetryOptions
    machine: MachineOptions
    cluster: ClusterOptions
    metrics: MetricsOptions
    checkpoint: CheckpointOptions
    cache: CacheOptions
    budget: BudgetOptions
    batch: BatchOptions
    notify: NotifyOptions
    simulator: Mapping[str, Any]
    prices: Mapping[str, PriceOptions]
