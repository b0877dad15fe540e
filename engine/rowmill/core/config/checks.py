"""What a configuration of the right keys and types can still get wrong: figures, names, URLs, paths, combinations."""

import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rowmill.core.config import (
    metrics_checks,
    money_checks,
    notify_checks,
    provider_checks,
    step_checks,
    task_checks,
)
from rowmill.core.config.sections import ClusterConfig, Config, RetryConfig, TaskConfig
from rowmill.core.simulator import NOT_NEGATIVE, SimulatorSettings

_NAME_BYTES = 255  # of a name, in every usual file system
_MADE_OF_IT = 20  # bytes more than the output's has the name of what is made beside it
_PATH_BYTES = 4000  # the kernel takes 4095; names of files in a directory come on top


def problems(config: Config) -> Iterator[str]:
    """Yield what is wrong, each as a line that begins with the key."""
    yield from provider_checks.problems(config)
    if config.client.ca_file is not None and not config.client.ca_file.strip():
        yield "client.ca_file: must not be empty; leave it out to trust whom this machine trusts"
    if isinstance(config.workers.count, int) and not 1 <= config.workers.count <= 256:  # noqa: PLR2004
        yield 'workers.count: must be 1 to 256, or "auto"'
    # Beyond 16384 one loop is the limit, not the slots.
    if isinstance(config.workers.concurrency, int) and not 1 <= config.workers.concurrency <= 16384:  # noqa: PLR2004
        yield 'workers.concurrency: must be 1 to 16384, or "auto"'
    yield from _retry_problems(config.retry, config.tasks)
    if not 0 < config.machine.memory <= 1:
        yield "machine.memory: must be above 0 and at most 1, a part of the memory"
    if isinstance(config.machine.min_free_mb, int) and config.machine.min_free_mb < 0:
        yield 'machine.min_free_mb: must be 0 or more megabytes, or "auto"'
    yield from _cluster_problems(config.cluster)
    yield from metrics_checks.problems(config.metrics)
    if not 1 <= config.checkpoint.commit_ms <= 60_000:  # noqa: PLR2004
        yield "checkpoint.commit_ms: must be 1 to 60000 milliseconds"
    if not re.fullmatch(r"0?[23]?7[0-7][0-7]", config.checkpoint.mode):
        yield 'checkpoint.mode: must be a mode as "0700" or "2770" in which the owner may do all'
    if config.cache.max_mb < 1:
        yield "cache.max_mb: must be 1 or more megabytes"
    if not config.cache.dir.strip():
        yield "cache.dir: must not be empty"
    if config.input.images_dir is not None and not config.input.images_dir.strip():
        yield "input.images_dir: must not be empty; leave it out for the input's own directory"
    if config.input.documents_dir is not None and not config.input.documents_dir.strip():
        yield "input.documents_dir: must not be empty; leave it out for the input's own directory"
    yield from money_checks.problems(config)
    yield from notify_checks.problems(config.notify)
    yield from step_checks.problems(config) if config.step else task_checks.problems(config)
    yield from _path_problems(config)
    yield from _simulator_problems(config.simulator)


def _cluster_problems(cluster: ClusterConfig) -> Iterator[str]:
    if cluster.address is not None and not cluster.address.strip():
        yield "cluster.address: must not be empty; leave it out for the cluster of the environment"
    if cluster.address is not None and cluster.address.startswith("ray://"):
        yield (
            "cluster.address: ray:// is for clients, which do not see the nodes; name the cluster's own address "
            '("HOST:6379"), or run the command on its head: ray job submit -- rowmill run ...'
        )
    if cluster.nodes is not None and cluster.nodes < 1:
        yield "cluster.nodes: must be 1 or more; leave it out for all that there are"
    if isinstance(cluster.workers_per_node, int) and not 1 <= cluster.workers_per_node <= 256:  # noqa: PLR2004
        yield 'cluster.workers_per_node: must be 1 to 256, or "auto"'
    if not 0 < cluster.cpus_per_worker <= 1024:  # noqa: PLR2004
        yield "cluster.cpus_per_worker: must be above 0, and no more than a node has"
    if not all(0 < amount < math.inf for amount in cluster.resources.values()):
        yield "cluster.resources: each must be above 0"


def _retry_problems(retry: RetryConfig, tasks: Sequence[TaskConfig]) -> Iterator[str]:
    yield from task_checks.end_problems("retry.on_finish", retry.on_finish, tasks)
    if retry.grows and all(map(task_checks.asks_unlimited, tasks)):
        yield 'retry.on_finish: "length" asks again with more than max_tokens, which is not set; set it in task.params'
    if not 1 <= retry.attempts <= 100:  # noqa: PLR2004
        yield "retry.attempts: must be 1 to 100"
    if not 0 < retry.deadline_s < math.inf:
        yield "retry.deadline_s: must be above 0 seconds"
    if not 0 <= retry.share <= 1:
        yield "retry.share: must be 0 to 1"
    if not 0 < retry.floor_per_s < math.inf:
        yield "retry.floor_per_s: must be above 0, so that every retry comes to its turn"
    if not 1 < retry.max_tokens_factor <= 100:  # noqa: PLR2004
        yield "retry.max_tokens_factor: must be above 1 and at most 100"
    if not 1 <= retry.invalid_output <= 20:  # noqa: PLR2004
        yield "retry.invalid_output: must be 1 to 20"


def _path_problems(config: Config) -> Iterator[str]:
    delimiter = config.input.separator
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n\0'):
        yield 'input.delimiter: must be one character, as ";" or "\\t", and no quote and no line end'
    if config.input.sheet is not None and not config.input.sheet:
        yield "input.sheet: must not be empty"
    for key, text in (
        ("input.path", config.input.path),
        ("output.path", config.output.path),
        ("output.errors", config.output.errors),
        ("checkpoint.dir", config.checkpoint.dir),
    ):
        here = key == "input.path" and text is not None and text.rstrip("/") == "."  # all files that lie here
        if text is not None and not Path(text).name and not here:
            yield f"{key}: must not be empty, and name more than a root"
        if text is not None and "\0" in text:
            yield f"{key}: must not hold a NUL character"
        if text is not None and "://" not in text and (problem := _too_long(text, key)):
            yield problem
    for key, value in (
        ("cache.dir", config.cache.dir),
        ("task.schema", config.task.schema),
        ("simulator.state", config.simulator.state),
    ):
        if isinstance(value, str) and "\0" in value:
            yield f"{key}: must not hold a NUL character"
    named = {
        "input.path": config.input_path,
        "output.path": config.output_path,
        "output.errors": config.errors_path,
        "checkpoint.dir": config.run_dir,
    }
    seen: dict[str, str] = {}
    for key, path in named.items():
        real = os.path.realpath(path)
        if real in seen:
            yield f"{key}: is the same file as {seen[real]} ({path}); choose another"
        seen[real] = key


def _too_long(text: str, key: str) -> str | None:
    """Say so where no file can have this name, nor one that is made of it."""
    most = _NAME_BYTES - (_MADE_OF_IT if key in {"output.path", "output.errors"} else 0)
    if max(len(os.fsencode(part)) for part in text.split("/")) > most:
        return f"{key}: a name in it has more than {most} bytes; choose a shorter one"
    if len(os.fsencode(text)) > _PATH_BYTES:
        return f"{key}: has more than {_PATH_BYTES} bytes; choose a shorter path"
    return None


def _simulator_problems(simulator: SimulatorSettings, where: str = "simulator") -> Iterator[str]:
    for key in NOT_NEGATIVE:
        if not 0 <= getattr(simulator, key) < math.inf:
            yield f"{where}.{key}: must be a number of 0 or more"
    for key in ("requests_per_minute", "tokens_per_minute"):
        value = getattr(simulator, key)
        if value is not None and not value > 0:
            yield f"{where}.{key}: must be above 0; leave it out for no limit"
    if simulator.batch_enqueued_tokens is not None and simulator.batch_enqueued_tokens < 1:
        yield f"{where}.batch_enqueued_tokens: must be 1 or more; leave it out for no limit"
    for key in ("faults", "content_faults", "batch_faults"):
        shares = getattr(simulator, key).values()
        if not all(share >= 0 for share in shares) or sum(shares) > 1:
            yield f"{where}.{key}: shares must be 0 to 1, and at most 1 together"
    for name, own in simulator.providers.items():
        yield from _simulator_problems(own, f"{where}.providers.{name}")
