"""What a configuration may say, and that everything else is refused by the name of its key."""

import copy
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rowmill.core.config import OPENAI_URL, SIMULATOR, Config, ProviderConfig, fingerprint, load, parse
from rowmill.core.config.credentials import api_key, extra_headers, secrets
from rowmill.core.config.reading import SECTIONS, every_key
from rowmill.core.config.reading import override as overridden
from rowmill.core.errors import ConfigError, ExitCode

MINIMAL: dict[str, Any] = {
    "input": {"path": "in.jsonl"},
    "task": {"model": "m", "prompt": "Say {text}"},
    "output": {"path": "out.jsonl"},
}

FULL = """
[input]
path = "in.jsonl"
format = "csv"
id = "name"
encoding = "latin-1"
delimiter = ";"
sheet = "Data"
split = "train"
images_dir = "photos"
documents_dir = "files"

[task]
mode = "live"
api = "chat.completions"
model = "m"
system = "Be short."
prompt = "Say {{ text }}"
template = "jinja"
images = ["photo"]
documents = { document = "file" }
document_pages = 9
document_characters = 1000
per_row = { model = "best" }
schema = { type = "object" }
strict_json = true
fail_on_finish = ["content_filter"]
rows_per_request = 1
params = { temperature = 0.2, response_format = { type = "json_object" } }

[[provider]]
name = "local"
base_url = "http://127.0.0.1:8000/v1"
api_key_env = "LOCAL_KEY"
model = "m-of-local"
weight = 2
requests_per_minute = 600
tokens_per_minute = 1.5e6
requests_per_day = 10_000
tokens_per_day = 1e9
timeout_s = 30
stream = true
schema_by = "json_object"
headers = { X-Team = "a" }
headers_env = { api-key = "LOCAL_HEADER" }
ca_file = "ca.pem"
cert_file = "me.pem"
key_file = "me.key"
fallback = []
fallback_on = ["context_length", "content_filter", "invalid_request"]

[client]
transport = "sdk"
ca_file = "others.pem"

[workers]
count = 4
concurrency = 128

[retry]
attempts = 3
deadline_s = 600
share = 0.2
floor_per_s = 5
invalid_output = 2
on_finish = ["content_filter"]
max_tokens_factor = 1.5

[machine]
memory = 0.8
min_free_mb = 500

[cluster]
engine = "ray"
address = "10.0.0.1:6379"
nodes = 3
workers_per_node = 2
cpus_per_worker = 0.5
resources = { accelerator = 1 }
runtime_env = { pip = ["rowmill"] }
input = "carry"

[metrics]
port = 9464
host = "0.0.0.0"
linger_s = 30
otlp = "http://127.0.0.1:4318"
interval_s = 10
headers_env = { authorization = "COLLECTOR_TOKEN" }

[checkpoint]
dir = "run"
commit_ms = 50
mode = "0750"

[cache]
use = "disk"
dir = "replies"
max_mb = 5

[budget]
max_usd = 12.5
max_tokens = 1e6
max_requests = 1000

[batch]
provider = "local"
deadline_s = 3600
max_requests = 1000
max_mb = 10
enqueued_tokens = 2e6
poll_s = 1
poll_max_s = 30
stuck_s = 90000

[notify]
on = ["end", "trouble"]
command = ["tell", "me"]
webhook = "https://hooks.example.com/T0/B0"
headers_env = { Authorization = "HOOK_TOKEN" }
timeout_s = 5
budget_at = 0.5

[prices.m]
input = 0.15
cached_input = 0.075
output = 0.6
batch_discount = 0.5

[output]
path = "out.csv"
format = "csv"
errors = "bad.jsonl"
include = ["input", "meta"]
escape_formulas = true

[simulator]
latency_ms = 10
latency_sigma = 0
per_token_ms = 1
reply_tokens = 20
requests_per_minute = 100
tokens_per_minute = 1000
parallel = 4
queue = 8
knee = 10
limit_headers = false
retry_after = false
faults = { "500" = 0.01 }
content_faults = { prose = 0.01 }
script = ["ok", "500"]
refuse = ["whole"]
batch_s = 2
batches = false
batch_script = ["ok"]
upload_script = ["ok"]
batch_faults = { missing = 0.01 }
batch_enqueued_tokens = 1000
state = "state"
hang_s = 5
seed = 7
providers = {}
"""


def tree(**sections: Any) -> dict[str, Any]:
    """Return the smallest configuration with these sections' keys put over it."""
    whole = copy.deepcopy(MINIMAL)
    for name, content in sections.items():
        whole[name] = whole[name] | content if isinstance(content, dict) and name in whole else content
    return whole


def refusal(document: dict[str, Any]) -> str:
    """Return the one line with which this configuration is refused."""
    with pytest.raises(ConfigError) as caught:
        parse(document, "c.toml")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("c.toml: ")
    assert caught.value.exit_code is ExitCode.USAGE
    return str(caught.value).removeprefix("c.toml: ")


def written(tmp_path: Path, text: str = FULL) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_key_is_read(tmp_path: Path) -> None:
    read = load(written(tmp_path))
    given = tomllib.loads(FULL)
    for section, content in msgspec.to_builtins(read).items():
        if section == "provider":
            assert content == [{"preset": None, "host": None, "api_version": None, **given[section][0]}]
            assert content[0].keys() == set(ProviderConfig.__struct_fields__)
        elif section == "step":
            assert content == []
        elif section == "task":
            assert content == given[section] | {"messages": None}
        elif section == "notify":
            assert content == given[section] | {"url_env": None}
        else:
            assert {k: list(v) if isinstance(v, tuple) else v for k, v in content.items()} == given[section]


def test_the_full_example_names_every_key_there_is() -> None:
    given = tomllib.loads(FULL)
    for section, kind in SECTIONS.items():
        if section == "step":
            continue  # in the place of what `[task]` asks: see test_steps
        content = given[section][0] if section == "provider" else given[section]
        # What stands in the place of another one: of the prompt, of the webhook, of the base URL.
        other = {
            "task": {"messages"},
            "notify": {"url_env"},
            "provider": {"preset", "host", "api_version"},
        }.get(section, set())
        assert set(content) | other == set(kind.__struct_fields__), section


def test_what_is_left_out_has_the_documented_value() -> None:
    read = parse(MINIMAL, "c.toml")
    assert read.task.api == "chat.completions"
    assert read.provider == [ProviderConfig(name="default", base_url=OPENAI_URL, timeout_s=600.0)]
    assert (read.provider[0].requests_per_minute, read.provider[0].tokens_per_minute) == (None, None)
    assert (read.provider[0].model, read.provider[0].weight, read.provider[0].headers) == (None, 1.0, {})
    assert (read.provider[0].fallback, read.provider[0].fallback_on) == ([], ["context_length", "content_filter"])
    assert (read.client.transport, read.workers.count, read.workers.concurrency) == ("direct", "auto", "auto")
    assert (read.retry.attempts, read.retry.deadline_s, read.retry.share, read.retry.floor_per_s) == (6, 86400, 0.1, 10)
    assert (read.machine.memory, read.machine.min_free_mb) == (0.9, "auto")
    assert str(read.errors_path) == "out.errors.jsonl"
    assert str(read.run_dir) == "out.jsonl.run"


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        parse(MINIMAL, "c.toml").retry.attempts = 9  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize(
    ("output", "errors"),
    [
        ("a/out.jsonl", "a/out.errors.jsonl"),
        ("a.b/out.tar", "a.b/out.errors.jsonl"),
        ("out", "out.errors.jsonl"),
        (".out", ".out.errors.jsonl"),
    ],
)
def test_the_errors_file_lies_beside_the_output(output: str, errors: str) -> None:
    assert str(parse(tree(output={"path": output}), "c.toml").errors_path) == errors


# Unknown keys and sections


@pytest.mark.parametrize(
    ("section", "key", "hint"),
    [
        ("input", "paths", "input.path"), ("task", "modell", "task.model"), ("task", "promt", "task.prompt"),
        ("retry", "attempt", "retry.attempts"), ("checkpoint", "commit", "checkpoint.commit_ms"),
        ("output", "error", "output.errors"), ("workers", "concurency", "workers.concurrency"),
        ("simulator", "latency", "simulator.latency_ms"),
        # the right name in the wrong section
        ("output", "id", "input.id"), ("workers", "timeout_s", "provider.timeout_s"),
        ("task", "concurrency", "workers.concurrency"), ("workers", "attempts", "retry.attempts"),
        ("output", "dir", "checkpoint.dir"), ("input", "requests_per_minute", "provider.requests_per_minute"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_refused_with_the_nearest_right_one(section: str, key: str, hint: str) -> None:
    document = tree()
    document.setdefault(section, {})[key] = 1
    assert refusal(document) == f"unknown key {section}.{key}; did you mean {hint}?"


@pytest.mark.parametrize(
    ("key", "hint"), [("api_key", "api_key_env"), ("url", "base_url"), ("rpm", ""), ("timeout", "timeout_s")]
)
def test_an_unknown_key_of_a_provider_is_refused(key: str, hint: str) -> None:
    assert refusal(tree(provider=[{key: 1}])).startswith(f"unknown key provider.{key}; did you mean provider.{hint}")


@pytest.mark.parametrize(
    ("section", "hint"),
    [
        ("inputs", "did you mean [input]?"),
        ("providers", "did you mean [[provider]]?"),
        ("worker", "did you mean [workers]?"),
        ("xyzzy", "sections are input, task, output, provider"),
    ],
)
def test_an_unknown_section_is_refused_with_the_nearest_right_one(section: str, hint: str) -> None:
    assert refusal(tree(**{section: {}})).startswith(f"unknown section [{section}]; {hint}")


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (tree(provider={"name": "x"}), "provider must be written as a [[provider]] section"),
        (tree(provider=[1]), "provider must be written as a [[provider]] section"),
        (tree(task=5), "task must be written as a [task] section"),
        (tree(retry=[{"attempts": 2}]), "retry must be written as a [retry] section"),
        (tree(provider=[]), "at least one [[provider]]"),
        (tree(machine=0.9), "machine must be written as a [machine] section"),
    ],
)
def test_a_section_of_the_wrong_form_is_refused(document: dict[str, Any], text: str) -> None:
    assert text in refusal(document)


# Missing keys and wrong types


@pytest.mark.parametrize("section", ["input", "output"])
def test_a_missing_section_is_named(section: str) -> None:
    document = tree()
    del document[section]
    assert refusal(document) == f"[{section}] is missing"


@pytest.mark.parametrize(
    ("key", "others"),
    [
        ("input.path", ""),
        ("task.model", "; set it, or provider.model of every provider, or the column of it in task.per_row"),
        ("task.prompt", '; set it, or task.messages, or input.format = "batch" for a batch file'),
        ("output.path", ""),
    ],
)
def test_a_missing_key_is_named_with_what_may_stand_in_its_place(key: str, others: str) -> None:
    document = tree(input={"format": "jsonl"})
    section, name = key.split(".")
    del document[section][name]
    assert refusal(document).replace(":", "") == f"{key} is missing{others}"


WRONG: dict[str, Any] = {
    "input.path": 5, "input.id": 5, "task.model": 4, "task.prompt": ["p"], "task.api": "chat", "task.system": True,
    "input.format": "xml", "input.encoding": 8, "input.delimiter": 1, "input.sheet": 1,
    "input.split": ["train"], "task.template": "mustache",
    "task.messages": 5, "task.images": "photo", "task.per_row": ["model"], "task.schema": 1, "task.strict_json": "yes",
    "task.rows_per_request": "many", "retry.invalid_output": "3", "cache.use": "on", "cache.dir": 5,
    "cache.max_mb": 0.5, "output.format": "xlsx", "simulator.content_faults": {"prose": "1%"},
    "task.params": "x", "client.transport": "http", "workers.count": "many", "workers.concurrency": "64",
    "retry.on_finish": "length", "retry.max_tokens_factor": "2x", "task.fail_on_finish": "length",
    "retry.attempts": True, "retry.deadline_s": "1h", "retry.share": "10%", "retry.floor_per_s": "10",
    "machine.memory": "90%", "machine.min_free_mb": "1g",
    "cluster.engine": "dask", "cluster.address": 6379, "cluster.nodes": "all", "cluster.workers_per_node": 0.5,
    "cluster.cpus_per_worker": "1", "cluster.resources": ["gpu"], "cluster.runtime_env": "pip",
    "cluster.input": "shared",
    "metrics.port": "9464", "metrics.host": 0, "metrics.linger_s": "30s", "metrics.otlp": True,
    "metrics.interval_s": "10", "metrics.headers_env": ["authorization"],
    "checkpoint.dir": 1, "checkpoint.commit_ms": 0.5, "output.path": {}, "output.errors": False,
    "checkpoint.mode": 0o700, "client.ca_file": True, "input.images_dir": ["photos"], "input.documents_dir": 1,
    "task.documents": ["file"], "task.document_pages": "all", "task.document_characters": 1.5,
    "output.escape_formulas": "yes",
    "output.include": "input", "simulator.latency_ms": "50", "simulator.latency_sigma": "x",
    "simulator.requests_per_minute": "x", "simulator.tokens_per_minute": [], "simulator.faults": {"500": "1%"},
    "simulator.refuse": "whole",
    "simulator.script": "ok", "simulator.hang_s": "x", "simulator.seed": 1.5, "simulator.per_token_ms": "1",
    "simulator.reply_tokens": [], "simulator.parallel": 1.5, "simulator.queue": "x", "simulator.knee": "x",
    "simulator.limit_headers": 1, "simulator.retry_after": 1, "simulator.providers": [],
    "simulator.batch_s": "1", "simulator.batches": 1, "simulator.batch_script": "ok", "simulator.upload_script": "ok",
    "simulator.batch_faults": {"missing": "1%"}, "simulator.batch_enqueued_tokens": 0.5, "simulator.state": 1,
    "task.mode": "batches", "budget.max_usd": "$5", "budget.max_tokens": "1M", "budget.max_requests": [1000],
    "batch.provider": 0, "batch.deadline_s": "24h", "batch.max_requests": 0.5, "batch.max_mb": "200",
    "batch.enqueued_tokens": True, "batch.poll_s": "5", "batch.poll_max_s": [60], "batch.stuck_s": "26h",
    "notify.on": "end", "notify.command": 5, "notify.webhook": ["x"], "notify.url_env": 1, "notify.headers_env": "x",
    "notify.timeout_s": "10", "notify.budget_at": "80%",
}  # fmt: skip
WRONG_OF_PROVIDER: dict[str, Any] = {
    "name": 1, "base_url": 5, "api_key_env": 1, "requests_per_minute": "60", "tokens_per_minute": True,
    "timeout_s": "30", "model": 4, "weight": "2", "requests_per_day": "1", "tokens_per_day": [], "headers": ["a"],
    "headers_env": {"a": 1}, "ca_file": ["ca.pem"], "cert_file": 1, "key_file": {},
    "fallback": "b", "fallback_on": ["timeout"], "preset": 5, "host": [], "api_version": 20241021, "stream": "yes",
    "schema_by": "json",
}  # fmt: skip


@pytest.mark.parametrize("key", WRONG)
def test_a_value_of_the_wrong_type_is_refused_by_its_key(key: str) -> None:
    document = tree()
    section, name = key.split(".")
    document.setdefault(section, {})[name] = WRONG[key]
    assert refusal(document).startswith(key)


@pytest.mark.parametrize("key", WRONG_OF_PROVIDER)
def test_a_provider_value_of_the_wrong_type_is_refused_by_its_key(key: str) -> None:
    wrong = {key: WRONG_OF_PROVIDER[key]}
    assert re.match(rf"provider\.{key}(\[.*\])?: ", refusal(tree(provider=[wrong])))
    several = [{"name": "a", "base_url": SIMULATOR}, {"name": "b", "base_url": SIMULATOR} | wrong]
    name = wrong.get("name", "b")
    assert re.match(rf"provider\.{key}(\[.*\])? of '{name}': ", refusal(tree(provider=several)))


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (tree(workers={"concurrency": "many"}), "workers.concurrency: 'many' is none of int, 'auto'"),
        (tree(client={"transport": "http"}), "client.transport: 'http' is none of 'direct', 'sdk'"),
        (
            tree(output={"include": ["meta", "x"]}),
            (
                "output.include[1]: 'x' is none of 'input', 'meta', "
                "'reasoning', 'tool_calls', 'logprobs', 'choices', 'message'"
            ),
        ),
        (
            tree(provider=[{"fallback_on": ["timeout"]}]),
            (
                "provider.fallback_on[0]: 'timeout' is none of 'context_length', 'content_filter', 'invalid_request', "
                "'finish_reason'"
            ),
        ),
    ],
)
def test_a_word_that_is_none_of_the_choices_is_refused_with_them(document: dict[str, Any], text: str) -> None:
    assert refusal(document) == text


def test_the_wrong_types_cover_every_key() -> None:
    every = {key for key in every_key() if not key.startswith("step.")}
    assert set(WRONG) | {f"provider.{key}" for key in WRONG_OF_PROVIDER} == every


# Values that cannot be used


@pytest.mark.parametrize(
    ("document", "key"),
    [
        (tree(provider=[{"name": ""}]), "provider.name"),
        (tree(provider=[{"name": "a b"}]), "provider.name"),
        (tree(provider=[{"name": "x" * 65}]), "provider.name"),
        (tree(provider=[{"base_url": ""}]), "provider.base_url"),
        (tree(provider=[{"base_url": "api.example.com/v1"}]), "provider.base_url"),
        (tree(provider=[{"base_url": "ftp://example.com"}]), "provider.base_url"),
        (tree(provider=[{"base_url": "https://"}]), "provider.base_url"),
        (tree(provider=[{"base_url": "http://h/v1 "}]), "provider.base_url"),
        (tree(provider=[{"base_url": "https://user:secret@example.com/v1"}]), "provider.base_url"),
        (tree(provider=[{"base_url": "http://example.com:port/v1"}]), "provider.base_url"),
        (tree(provider=[{"base_url": "http://example.com:70000/v1"}]), "provider.base_url"),
        (tree(provider=[{"base_url": "http://[::1/v1"}]), "provider.base_url"),
        (tree(provider=[{"base_url": "http://example.com/a b"}]), "provider.base_url"),
        (tree(provider=[{"base_url": "http://example.com/v1#part"}]), "provider.base_url"),
        (tree(provider=[{"requests_per_minute": 0}]), "provider.requests_per_minute"),
        (tree(provider=[{"requests_per_minute": -1}]), "provider.requests_per_minute"),
        (tree(provider=[{"requests_per_minute": float("nan")}]), "provider.requests_per_minute"),
        (tree(provider=[{"tokens_per_minute": float("inf")}]), "provider.tokens_per_minute"),
        (tree(provider=[{"timeout_s": 0}]), "provider.timeout_s"),
        (tree(provider=[{"timeout_s": float("nan")}]), "provider.timeout_s"),
        (tree(provider=[{"timeout_s": 86_401}]), "provider.timeout_s"),
        (tree(provider=[{"requests_per_day": 0}]), "provider.requests_per_day"),
        (tree(provider=[{"requests_per_day": float("nan")}]), "provider.requests_per_day"),
        (tree(provider=[{"tokens_per_day": -1.0}]), "provider.tokens_per_day"),
        (tree(provider=[{"tokens_per_day": float("inf")}]), "provider.tokens_per_day"),
        (tree(provider=[{"model": " "}]), "provider.model"),
        (tree(provider=[{"weight": -1}]), "provider.weight"),
        (tree(provider=[{"weight": float("nan")}]), "provider.weight"),
        (tree(provider=[{"weight": float("inf")}]), "provider.weight"),
        (tree(provider=[{"weight": 0}]), "provider.weight"),
        (tree(provider=[{"headers": {"": "a"}}]), "provider.headers"),
        (tree(provider=[{"headers": {"a b": "c"}}]), "provider.headers"),
        (tree(provider=[{"headers": {"a:": "c"}}]), "provider.headers"),
        (tree(provider=[{"headers": {"x-\u00e4": "c"}}]), "provider.headers"),
        (tree(provider=[{"headers": {"x-a": "c\r\nx-b: d"}}]), "provider.headers"),
        (tree(provider=[{"headers": {"x-a": "\u00e4"}}]), "provider.headers"),
        (tree(provider=[{"headers": {"x-a": " c"}}]), "provider.headers"),
        (tree(provider=[{"headers": {"x-a": "c", "X-A": "d"}}]), "provider.headers"),
        (tree(provider=[{"headers": {"Content-Length": "1"}}]), "provider.headers"),
        (tree(provider=[{"headers": {"Host": "a"}}]), "provider.headers"),
        (tree(provider=[{"headers": {"content-type": "text/plain"}}]), "provider.headers"),
        (tree(provider=[{"headers": {"Transfer-Encoding": "chunked"}}]), "provider.headers"),
        (tree(provider=[{"headers": {"Authorization": "Bearer x"}}]), "provider.headers"),
        (tree(provider=[{"headers_env": {"host": "A"}}]), "provider.headers_env"),
        (tree(provider=[{"headers_env": {"a b": "A"}}]), "provider.headers_env"),
        (tree(provider=[{"headers_env": {"x-a": ""}}]), "provider.headers_env"),
        (tree(provider=[{"headers_env": {"x-a": "A=B"}}]), "provider.headers_env"),
        (tree(provider=[{"headers": {"x-a": "c"}, "headers_env": {"X-A": "A"}}]), "provider.headers_env"),
        (tree(provider=[{"api_key_env": "K", "headers_env": {"Authorization": "A"}}]), "provider.headers_env"),
        (tree(provider=[{"fallback": ["default"]}]), "provider.fallback"),
        (tree(provider=[{"fallback": ["other"]}]), "provider.fallback"),
        (tree(workers={"count": 0}), "workers.count"),
        (tree(workers={"count": 257}), "workers.count"),
        (tree(workers={"concurrency": 0}), "workers.concurrency"),
        (tree(workers={"concurrency": 16_385}), "workers.concurrency"),
        (tree(retry={"attempts": 0}), "retry.attempts"),
        (tree(retry={"attempts": 101}), "retry.attempts"),
        (tree(retry={"deadline_s": 0}), "retry.deadline_s"),
        (tree(retry={"deadline_s": -1}), "retry.deadline_s"),
        (tree(retry={"deadline_s": float("nan")}), "retry.deadline_s"),
        (tree(retry={"deadline_s": float("inf")}), "retry.deadline_s"),
        (tree(retry={"share": -0.1}), "retry.share"),
        (tree(retry={"share": 1.1}), "retry.share"),
        (tree(retry={"share": float("nan")}), "retry.share"),
        (tree(retry={"floor_per_s": 0}), "retry.floor_per_s"),
        (tree(retry={"floor_per_s": float("nan")}), "retry.floor_per_s"),
        (tree(retry={"floor_per_s": float("inf")}), "retry.floor_per_s"),
        (tree(machine={"memory": 0}), "machine.memory"),
        (tree(machine={"memory": 1.1}), "machine.memory"),
        (tree(machine={"memory": float("nan")}), "machine.memory"),
        (tree(machine={"min_free_mb": -1}), "machine.min_free_mb"),
        (tree(cluster={"address": " "}), "cluster.address"),
        (tree(cluster={"address": "ray://head:10001"}), "cluster.address"),
        (tree(cluster={"nodes": 0}), "cluster.nodes"),
        (tree(cluster={"workers_per_node": 0}), "cluster.workers_per_node"),
        (tree(cluster={"workers_per_node": 257}), "cluster.workers_per_node"),
        (tree(cluster={"cpus_per_worker": 0}), "cluster.cpus_per_worker"),
        (tree(cluster={"cpus_per_worker": float("nan")}), "cluster.cpus_per_worker"),
        (tree(cluster={"resources": {"gpu": 0}}), "cluster.resources"),
        (tree(metrics={"port": -1}), "metrics.port"),
        (tree(metrics={"port": 65536}), "metrics.port"),
        (tree(metrics={"port": 0, "host": " "}), "metrics.host"),
        (tree(metrics={"port": 0, "linger_s": float("inf")}), "metrics.linger_s"),
        (tree(metrics={"otlp": "http://a:4318", "interval_s": 0}), "metrics.interval_s"),
        (tree(metrics={"otlp": "collector:4318"}), "metrics.otlp"),
        (tree(metrics={"otlp": "grpc://collector:4317"}), "metrics.otlp"),
        (tree(metrics={"otlp": "http://user:password@collector:4318"}), "metrics.otlp"),
        (tree(metrics={"otlp": "http://collector:port"}), "metrics.otlp"),
        (tree(metrics={"otlp": ""}), "metrics.otlp"),
        (tree(checkpoint={"commit_ms": 0}), "checkpoint.commit_ms"),
        (tree(checkpoint={"commit_ms": 60_001}), "checkpoint.commit_ms"),
        (tree(checkpoint={"mode": "0600"}), "checkpoint.mode"),
        (tree(client={"ca_file": " "}), "client.ca_file"),
        (tree(input={"images_dir": ""}), "input.images_dir"),
        (tree(input={"documents_dir": ""}), "input.documents_dir"),
        (tree(provider=[{"ca_file": ""}]), "provider.ca_file"),
        (tree(provider=[{"cert_file": " "}]), "provider.cert_file"),
        (tree(provider=[{"cert_file": "a", "key_file": ""}]), "provider.key_file"),
        (tree(checkpoint={"mode": "4700"}), "checkpoint.mode"),
        (tree(checkpoint={"mode": "rwx"}), "checkpoint.mode"),
        (tree(checkpoint={"mode": ""}), "checkpoint.mode"),
        (tree(task={"model": " "}), "task.model"),
        (tree(task={"prompt": "\n"}), "task.prompt"),
        (tree(retry={"invalid_output": 0}), "retry.invalid_output"),
        (tree(retry={"invalid_output": 21}), "retry.invalid_output"),
        (tree(retry={"max_tokens_factor": 1}), "retry.max_tokens_factor"),
        (tree(retry={"max_tokens_factor": 101}), "retry.max_tokens_factor"),
        (tree(retry={"on_finish": ["length"]}), "retry.on_finish"),  # of no max_tokens
        (tree(retry={"on_finish": ["stop"]}), "retry.on_finish"),
        (tree(retry={"on_finish": ["SAFETY"]}), "retry.on_finish"),
        (tree(retry={"on_finish": ["max_tokens"]}), "retry.on_finish"),
        (tree(task={"fail_on_finish": ["end_turn"]}), "task.fail_on_finish"),
        (tree(task={"fail_on_finish": ["content-filter"]}), "task.fail_on_finish"),
        (tree(task={"fail_on_finish": ["content_fitler"]}), "task.fail_on_finish"),
        (tree(retry={"on_finish": ["lenght"]}), "retry.on_finish"),
        (tree(retry={"on_finish": ["x"]}, task={"api": "embeddings"}), "retry.on_finish"),
        (tree(retry={"on_finish": ["x"]}, task={"rows_per_request": 2}), "retry.on_finish"),
        (tree(task={"fail_on_finish": [""]}), "task.fail_on_finish"),
        (tree(task={"fail_on_finish": ["length"], "rows_per_request": 2}), "task.fail_on_finish"),
        (tree(task={"fail_on_finish": ["length"], "api": "moderations"}), "task.fail_on_finish"),
        (tree(task={"api": "embeddings"}, provider=[{"stream": True}]), "provider.stream"),
        (tree(provider=[{"schema_by": "tool"}]), "provider.schema_by"),
        (tree(cache={"max_mb": 0}), "cache.max_mb"),
        (tree(cache={"dir": " "}), "cache.dir"),
        (tree(task={"messages": "chat"}), "task.messages"),
        (tree(task={"messages": []}), "task.messages"),
        (tree(task={"messages": ""}), "task.messages"),
        (tree(task={"images": [""]}), "task.images"),
        (tree(task={"documents": {"": "file"}}), "task.documents"),
        (tree(task={"documents": {"document": ""}}), "task.documents"),
        (tree(task={"document_pages": 0}), "task.document_pages"),
        (tree(task={"document_characters": 0}), "task.document_characters"),
        (tree(task={"images": ["a"], "api": "completions"}), "task.images"),
        (tree(task={"images": ["a"], "api": "embeddings"}), "task.images"),
        (tree(task={"images": ["a"], "api": "moderations"}), "task.images"),
        (tree(task={"system": "s", "api": "embeddings"}), "task.system"),
        (tree(task={"schema": {"type": "object"}, "api": "completions"}), "task.schema"),
        (tree(task={"schema": ""}), "task.schema"),
        (tree(task={"schema": {"type": "object"}}, output={"format": "batch"}), "task.schema"),
        (tree(task={"rows_per_request": 0}), "task.rows_per_request"),
        (tree(task={"rows_per_request": 1001}), "task.rows_per_request"),
        (tree(task={"rows_per_request": 2049, "api": "embeddings"}), "task.rows_per_request"),
        (tree(task={"rows_per_request": 2, "api": "responses"}), "task.rows_per_request"),
        (tree(task={"rows_per_request": 2, "api": "completions"}), "task.rows_per_request"),
        (tree(task={"rows_per_request": 2, "per_row": {"seed": "s"}}), "task.rows_per_request"),
        (tree(task={"rows_per_request": 2, "images": ["a"]}), "task.rows_per_request"),
        (tree(task={"rows_per_request": 2}, output={"format": "batch"}), "task.rows_per_request"),
        (tree(task={"per_row": {"messages": "m"}}), "task.per_row.messages"),
        (tree(task={"per_row": {"stream": "m"}}), "task.per_row.stream"),
        (tree(task={"per_row": {"n": "m"}}), "task.per_row.n"),
        (tree(task={"per_row": {"input": "m"}, "api": "embeddings"}), "task.per_row.input"),
        (
            tree(task={"per_row": {"response_format": "m"}, "schema": {"type": "object"}}),
            "task.per_row.response_format",
        ),
        (tree(task={"per_row": {"seed": ""}}), "task.per_row"),
        (tree(task={"params": {"input": "x"}, "api": "responses"}), "task.params.input"),
        (tree(task={"params": {"prompt": "x"}, "api": "completions"}), "task.params.prompt"),
        (tree(task={"params": {"instructions": "x"}, "api": "responses", "system": "s"}), "task.params.instructions"),
        (tree(task={"params": {"background": True}, "api": "responses"}), "task.params.background"),
        (tree(task={"params": {"encoding_format": "int8"}, "api": "embeddings"}), "task.params.encoding_format"),
        (tree(input={"format": "batch"}), "task.prompt"),
        (tree(task={"prompt": None, "system": "s"}), "task.prompt"),
        (tree(task={"prompt": None}, input={"format": "csv"}), "task.prompt"),
        (tree(input={"format": "batch", "id": "x"}, task={"prompt": None}), "input.id"),
        (tree(input={"format": "batch"}, task={"prompt": None, "params": {"seed": 1}}), "task.params"),
        (tree(input={"format": "batch"}, task={"prompt": None, "rows_per_request": 5}), "task.rows_per_request"),
        (tree(task={"params": {"messages": []}}), "task.params.messages"),
        (tree(task={"params": {"model": "x"}}), "task.params.model"),
        (tree(task={"params": {"stream": True}}), "task.params.stream"),
        *((tree(task={"params": {"n": n}}), "task.params.n") for n in (0, -1, 2.0, "2", None)),
        (tree(task={"params": {"n": 2}, "api": "responses"}), "task.params.n"),
        (tree(task={"params": {"n": 2}, "rows_per_request": 2}), "task.rows_per_request"),
        (tree(task={"rows_per_request": 2}, output={"include": ["reasoning"]}), "task.rows_per_request"),
        (tree(task={"api": "embeddings"}, output={"include": ["message"]}), "output.include"),
        (tree(task={"params": {"extra_body": "x"}}), "task.params.extra_body"),
        (tree(task={"params": {"extra_body": {"stream": True}}}), "task.params.stream"),
        (tree(task={"params": {"extra_headers": {"a": "b"}}}), "task.params.extra_headers"),
        (tree(task={"params": {"extra_query": {"a": "b"}}}), "task.params.extra_query"),
        (tree(task={"params": {"temperature": float("nan")}}), "task.params"),
        (tree(task={"params": {"a": {"b": [float("inf")]}}}), "task.params"),
        (tree(task={"params": {"day": tomllib.loads("d = 2026-01-01")["d"]}}), "task.params"),
        (tree(output={"include": ["inputs"]}), "output.include"),
        (tree(input={"path": ""}), "input.path"),
        (tree(input={"delimiter": ""}), "input.delimiter"),
        (tree(input={"delimiter": ";;"}), "input.delimiter"),
        (tree(input={"delimiter": "\n"}), "input.delimiter"),
        (tree(input={"delimiter": '"'}), "input.delimiter"),
        (tree(input={"sheet": ""}), "input.sheet"),
        (tree(input={"path": "a\0b"}), "input.path"),
        (tree(output={"path": ""}), "output.path"),
        (tree(output={"path": "/"}), "output.path"),
        (tree(output={"errors": ""}), "output.errors"),
        (tree(checkpoint={"dir": ""}), "checkpoint.dir"),
        (tree(checkpoint={"dir": "."}), "checkpoint.dir"),
        (tree(simulator={"latency_ms": -1}), "simulator.latency_ms"),
        (tree(simulator={"latency_ms": float("nan")}), "simulator.latency_ms"),
        (tree(simulator={"latency_sigma": float("inf")}), "simulator.latency_sigma"),
        (tree(simulator={"hang_s": -0.1}), "simulator.hang_s"),
        (tree(simulator={"per_token_ms": -1}), "simulator.per_token_ms"),
        (tree(simulator={"reply_tokens": float("nan")}), "simulator.reply_tokens"),
        (tree(simulator={"providers": {"b": {"latency_ms": -1}}}), "simulator.providers.b.latency_ms"),
        (tree(simulator={"requests_per_minute": 0}), "simulator.requests_per_minute"),
        (tree(simulator={"tokens_per_minute": -5}), "simulator.tokens_per_minute"),
        (tree(simulator={"faults": {"500": -0.1}}), "simulator.faults"),
        (tree(simulator={"faults": {"500": float("nan")}}), "simulator.faults"),
        (tree(simulator={"faults": {"500": 0.6, "429": 0.6}}), "simulator.faults"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_its_key(document: dict[str, Any], key: str) -> None:
    assert re.match(rf"{re.escape(key)}(\[0\])?: ", refusal(document))


@pytest.mark.parametrize("url", ["http://h/v1 ", "https://h/v1#x"])
def test_a_url_with_a_space_or_a_fragment_is_told_so(url: str) -> None:
    assert refusal(tree(provider=[{"base_url": url}])).endswith(f"{url!r} has a space or a # in it; take it out")


@pytest.mark.parametrize(
    "document",
    [
        tree(provider=[{"base_url": SIMULATOR}]),
        tree(provider=[{"base_url": "http://127.0.0.1:8000"}]),
        tree(provider=[{"base_url": "http://[::1]:8000/v1/"}]),
        tree(provider=[{"base_url": "https://x.example.com/openai/deployments/d?api-version=2024-10-21"}]),
        tree(provider=[{"base_url": "https://example.com/v1?user=a@b.c"}]),
        tree(provider=[{"requests_per_minute": 0.5, "tokens_per_minute": 1e9, "timeout_s": 86_400}]),
        tree(workers={"count": 256, "concurrency": 16_384}),
        tree(workers={"concurrency": "auto"}),
        tree(provider=[{"headers": {"X-Odd_Name.1~": "a b, c=d", "x-empty": ""}, "headers_env": {"api-key": "A"}}]),
        tree(provider=[{"headers_env": {"Authorization": "A"}, "requests_per_day": 0.5}]),
        tree(retry={"share": 0, "floor_per_s": 0.1, "deadline_s": 1}),
        tree(retry={"share": 1}),
        tree(machine={"memory": 1, "min_free_mb": 0}),
        tree(task={"params": {"n": 1, "stream": False, "stop": ["\n"]}}),
        tree(task={"system": ""}),
        tree(task={"prompt": None, "messages": "chat"}),
        tree(task={"prompt": None, "messages": [{"role": "user", "content": "{text}"}]}),
        tree(task={"model": None, "per_row": {"model": "m"}}),
        tree(task={"model": None}, provider=[{"base_url": SIMULATOR, "model": "m"}]),
        tree(task={"model": None, "prompt": None}, input={"format": "batch"}),
        tree(task={"prompt": None}, input={"format": "batch"}),
        tree(task={"prompt": None, "model": None}),  # the input may be a batch file
        tree(task={"api": "embeddings", "rows_per_request": 2048, "params": {"encoding_format": "float"}}),
        tree(task={"api": "moderations", "rows_per_request": 2}),
        tree(task={"api": "completions", "rows_per_request": 1, "params": {"messages_of": "x", "input": "other"}}),
        tree(task={"rows_per_request": 1000, "schema": {"type": "object"}}),
        tree(task={"api": "embeddings"}, output={"format": "batch"}),
        tree(simulator={"faults": {"500": 0.5, "429": 0.5}, "hang_s": 0}),
    ],
)
def test_an_unusual_but_right_value_is_taken(document: dict[str, Any]) -> None:
    assert isinstance(parse(document, "c.toml"), Config)


# Several providers


def tables(*changes: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with so many providers, called a, b, c, ..., each with these keys changed."""
    names = "abcdefgh"
    return tree(
        provider=[
            {"name": names[number], "base_url": f"http://{names[number]}.example/v1"} | change
            for number, change in enumerate(changes)
        ]
    )


def test_several_providers_keep_their_order_and_their_own_settings() -> None:
    read = parse(tables({"weight": 5, "fallback": ["c", "b"]}, {"model": "large"}, {"weight": 0}), "c.toml")
    assert [provider.name for provider in read.provider] == ["a", "b", "c"]
    assert [provider.weight for provider in read.provider] == [5, 1, 0]
    assert [read.model_of(provider) for provider in read.provider] == ["m", "large", "m"]
    assert read.provider[0].fallback == ["c", "b"]


def test_two_that_differ_in_nothing_but_the_name_are_taken() -> None:
    same = {"base_url": OPENAI_URL, "api_key_env": "K", "model": "m"}
    assert len(parse(tables(same, same), "c.toml").provider) == 2


def test_one_of_several_may_leave_its_url_out_for_openais() -> None:
    document = tables({}, {}, {})
    del document["provider"][1]["base_url"]
    assert parse(document, "c.toml").provider[1].base_url == OPENAI_URL


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (tables({}, {"name": "a"}), "provider.name: 'a' is the name of two"),
        (tree(provider=[{}, {}]), "provider.name: 'default' is the name of two"),
        (tree(provider=[{}, {"name": "b"}]), "provider.base_url of 'b': is missing"),
        (tables({}, {"base_url": "b.example"}), "provider.base_url of 'b': "),
        (tables({"weight": 0}, {"weight": 0}), "provider.weight: is 0 everywhere"),
        (tables({}, {"weight": -2}), "provider.weight of 'b': "),
        (tables({}, {"requests_per_minute": 0}), "provider.requests_per_minute of 'b': "),
        (tables({}, {"fallback": ["b"]}), "provider.fallback of 'b': 'b' is the provider itself"),
        (tables({"fallback": ["b", "x"]}, {}), "provider.fallback of 'a': no provider is called 'x'"),
        (tables({"fallback": ["b", "b"]}, {}), "provider.fallback of 'a': 'b' is there twice"),
        (tables({}, {"headers": {"host": "h"}}), "provider.headers of 'b': host is set by the engine itself"),
        (tables({}, {"wieght": 1}), "unknown key provider.wieght of 'b'; did you mean provider.weight?"),
    ],
)
def test_what_is_wrong_with_one_of_several_is_told_with_its_name(document: dict[str, Any], text: str) -> None:
    assert refusal(document).startswith(text)


# Files that must not be the same


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (tree(output={"path": "in.jsonl"}), "output.path: is the same file as input.path"),
        (tree(output={"path": "x/../in.jsonl"}), "output.path: is the same file as input.path"),
        (tree(output={"errors": "./in.jsonl"}), "output.errors: is the same file as input.path"),
        (tree(output={"errors": "out.jsonl"}), "output.errors: is the same file as output.path"),
        (tree(checkpoint={"dir": "out.jsonl"}), "checkpoint.dir: is the same file as output.path"),
        (tree(checkpoint={"dir": "in.jsonl"}), "checkpoint.dir: is the same file as input.path"),
        (tree(input={"path": "out.errors.jsonl"}), "output.errors: is the same file as input.path"),
        (tree(input={"path": "out.jsonl.run"}), "checkpoint.dir: is the same file as input.path"),
    ],
)
def test_two_keys_that_name_one_file_are_refused(document: dict[str, Any], text: str) -> None:
    assert refusal(document).startswith(text)


def test_an_output_that_is_a_symlink_to_the_input_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("{}\n", encoding="utf-8")
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "folder").symlink_to(tmp_path)
    for name in ("link", "folder/in.jsonl"):
        document = tree(input={"path": str(source)}, output={"path": str(tmp_path / name)})
        assert refusal(document).startswith("output.path: is the same file as input.path")


# --set


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("workers.count=3", "workers.count", 3),
        ("workers.count=auto", "workers.count", "auto"),
        ('workers.count="auto"', "workers.count", "auto"),
        (" workers . count = 3", "workers.count", 3),
        ("task.model=gpt-4.1-mini", "task.model", "gpt-4.1-mini"),
        ("task.model=a=b", "task.model", "a=b"),
        ("task.prompt=Say {text}, #1", "task.prompt", "Say {text}, #1"),
        ("task.prompt=Two\nlines of {text}", "task.prompt", "Two\nlines of {text}"),
        ("task.prompt='first'\nsecond = 'x'", "task.prompt", "'first'\nsecond = 'x'"),
        ("task.system=", "task.system", ""),
        ("task.params.temperature=0.5", "task.params.temperature", 0.5),
        ("task.params.response_format.type=text", "task.params.response_format.type", "text"),
        ('task.params={ seed = 7, stop = ["a"] }', "task.params.seed", 7),
        ('output.include=["input"]', "output.include", ["input"]),
        ("provider.base_url=http://127.0.0.1:9/v1", "provider.base_url", "http://127.0.0.1:9/v1"),
        ("provider.requests_per_minute=1_000", "provider.requests_per_minute", 1000),
        ("provider.headers.X-Team=b", "provider.headers.X-Team", "b"),
        ("workers.concurrency=auto", "workers.concurrency", "auto"),
        ("machine.min_free_mb=auto", "machine.min_free_mb", "auto"),
        ("simulator.faults.500=0.25", "simulator.faults.500", 0.25),
        ('simulator.script=["ok", "500"]', "simulator.script", ("ok", "500")),
    ],
)
@pytest.mark.parametrize("text", [FULL, '[input]\npath="i"\n[task]\nmodel="m"\nprompt="p"\n[output]\npath="o"\n'])
def test_set_overrides_a_key(tmp_path: Path, text: str, override: str, key: str, value: Any) -> None:
    node: Any = load(written(tmp_path, text), [override])
    for part in key.split("."):
        found = node[0] if isinstance(node, list) else node
        node = found[part] if isinstance(found, dict) else getattr(found, part)
    assert node == value


def test_set_keeps_the_keys_beside_it(tmp_path: Path) -> None:
    read = load(written(tmp_path), ["task.params.temperature=1", "provider.timeout_s=5"])
    assert read.task.params == {"temperature": 1, "response_format": {"type": "json_object"}}
    assert (read.provider[0].name, read.provider[0].timeout_s) == ("local", 5)


def test_the_last_set_wins_and_sets_can_complete_a_file(tmp_path: Path) -> None:
    overrides = ["input.path=i", "task.model=a", "task.model=b", "task.prompt=p", "output.path=o"]
    assert load(written(tmp_path, ""), overrides).task.model == "b"


def test_the_directory_where_one_is_may_be_the_input_and_a_root_may_not() -> None:
    for here in (".", "./"):
        assert parse(tree(input={"path": here}), "test").input.path == here
    for path in ("", "/", "//"):
        assert refusal(tree(input={"path": path})).startswith("input.path: must not be empty")
    assert refusal(tree(output={"path": "."})).startswith("output.path: must not be empty")


def test_the_only_provider_may_be_called_by_its_name() -> None:
    document = tree(provider=[{"name": "local", "base_url": "http://127.0.0.1:9/v1"}])
    overridden(document, "provider.local.weight=2")
    overridden(document, "provider.headers.local=2")
    assert document["provider"][0]["weight"] == 2
    assert document["provider"][0]["headers"] == {"local": 2}


@pytest.mark.parametrize("override", ["workers", "workers.count", "count=4", ".count=4", "workers.=4", "=4", ""])
def test_a_set_of_the_wrong_form_is_refused_with_an_example(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"--set {override}: write it as section.key=value")):
        load(written(tmp_path), [override])


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("workers.cuont=4", "unknown key workers.cuont; did you mean workers.count"),
        ("worker.count=4", "unknown section [worker]; did you mean [workers]"),
        ("workers.count=4.5", "workers.count: expected int"),
        ("task.model.name=x", "model is no section"),
        ("provider.x.y=1", "unknown key provider.x"),
        ("retry.attempts=0", "retry.attempts: must be 1 to 100"),
    ],
)
def test_a_set_is_checked_like_the_file(tmp_path: Path, override: str, text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(text)):
        load(written(tmp_path), [override])


TWO = FULL + '\n[[provider]]\nname = "b"\n'


def test_a_set_for_one_of_several_providers_names_it(tmp_path: Path) -> None:
    read = load(written(tmp_path, TWO), ["provider.b.timeout_s=5", "provider.local.headers.X-Team=c"])
    assert [provider.timeout_s for provider in read.provider] == [30, 5]
    assert [provider.headers for provider in read.provider] == [{"X-Team": "c"}, {}]


@pytest.mark.parametrize("key", ["timeout_s", "b", "c.timeout_s", "headers.X-Team"])
def test_a_set_that_does_not_say_which_of_several_providers_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=r"more than one .*provider\.NAME\.key=value, with NAME one of local, b"):
        load(written(tmp_path, TWO), [f"provider.{key}=5"])


# Files that cannot be read


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: no such file"):
        load(tmp_path / "none.toml")


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)


@pytest.mark.parametrize("data", [b"[task", b"\xff\xfe", b"a = 1\na = 2", b'\x00 = "x"'])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"config\.toml: not valid TOML") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_an_editor_of_windows_has_saved_is_read_or_told_of_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    text = '[input]\r\npath = "in.jsonl"\r\n[task]\r\nmodel = "m"\r\nprompt = "Gr\u00fc\u00dfe {text}"\r\n'
    text += '[output]\r\npath = "out.jsonl"\r\n[[provider]]\r\nname = "main"\r\n'
    path.write_text(text, encoding="utf-8-sig", newline="")
    assert load(path).task.prompt == "Gr\u00fc\u00dfe {text}"
    for encoding, line in (("cp1252", 5), ("utf-16", 1)):
        path.write_text(text, encoding=encoding, newline="")
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert str(caught.value) == f"{path}: not valid TOML: line {line} is not in UTF-8; save the file as UTF-8"


# Keys

KEYS = {"OPENAI_API_KEY": "sk-openai", "OTHER_KEY": " sk-other \n", "EMPTY": " ", "ODD": "sk-\u00e4", "LINE": "a\nb"}


@pytest.mark.parametrize("url", [OPENAI_URL, OPENAI_URL + "/"])
def test_openais_own_server_gets_openais_key(url: str) -> None:
    assert api_key(ProviderConfig(base_url=url), KEYS) == "sk-openai"


@pytest.mark.parametrize(
    "url",
    [
        "http://api.openai.com/v1", "https://api.openai.com.evil.example/v1", "https://api.openai.com:8443/v1",
        "https://api.openai.com/v1/../x", "https://api.openai.com/v1?x=1", "https://eu.api.openai.com/v1",
        "http://127.0.0.1:8000/v1", "https://example.com/https://api.openai.com/v1", SIMULATOR,
    ],
)  # fmt: skip
def test_no_other_server_ever_gets_a_key_that_was_not_named_for_it(url: str) -> None:
    assert api_key(ProviderConfig(base_url=url), KEYS) is None


def test_a_named_key_goes_where_it_is_named_for_and_is_trimmed() -> None:
    for url in (OPENAI_URL, "http://127.0.0.1:8000/v1"):
        assert api_key(ProviderConfig(base_url=url, api_key_env="OTHER_KEY"), KEYS) == "sk-other"


@pytest.mark.parametrize("name", ["NOT_SET", "EMPTY"])
@pytest.mark.parametrize("url", [OPENAI_URL, "http://127.0.0.1:8000/v1"])
def test_a_named_key_that_is_not_set_is_an_error_that_says_what_to_do(url: str, name: str) -> None:
    with pytest.raises(ConfigError, match=f"set the environment variable {name}") as caught:
        api_key(ProviderConfig(base_url=url, api_key_env=name), KEYS)
    assert "sk-" not in str(caught.value), "no other key is fallen back to, or shown"


def test_openai_without_a_key_is_an_error_that_names_the_variable() -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        api_key(ProviderConfig(), {})


@pytest.mark.parametrize("name", ["ODD", "LINE"])
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(name: str) -> None:
    with pytest.raises(ConfigError, match=f"key in {name}") as caught:
        api_key(ProviderConfig(api_key_env=name), KEYS)
    assert KEYS[name] not in str(caught.value)


HEADERS = KEYS | {"AZURE": " az-secret ", "BEARER": "Bearer tok-secret"}


def test_headers_of_the_environment_come_after_the_others_with_their_values() -> None:
    provider = ProviderConfig(headers={"X-Team": "a"}, headers_env={"api-key": "AZURE", "x-other": "OTHER_KEY"})
    assert extra_headers(provider, HEADERS) == (("X-Team", "a"), ("api-key", "az-secret"), ("x-other", "sk-other"))


@pytest.mark.parametrize("name", ["NOT_SET", "EMPTY"])
def test_a_header_whose_variable_is_not_set_is_an_error_that_says_what_to_do(name: str) -> None:
    provider = ProviderConfig(name="azure", headers_env={"api-key": name})
    with pytest.raises(ConfigError, match=f"'azure': no value for the header api-key: set .* {name}.*headers_env"):
        extra_headers(provider, HEADERS)


@pytest.mark.parametrize("name", ["ODD", "LINE"])
def test_a_value_that_no_header_can_carry_is_refused_without_showing_it(name: str) -> None:
    with pytest.raises(ConfigError, match=f"the value in {name} has characters") as caught:
        extra_headers(ProviderConfig(headers_env={"api-key": name}), HEADERS)
    assert HEADERS[name] not in str(caught.value)


def test_everything_of_the_environment_is_a_secret_and_nothing_of_the_file() -> None:
    provider = ProviderConfig(
        base_url=SIMULATOR, api_key_env="OTHER_KEY", headers={"X-Team": "a"}, headers_env={"api-key": "AZURE"}
    )
    assert set(secrets(provider, HEADERS)) == {"sk-other", "az-secret"}
    assert secrets(ProviderConfig(base_url=SIMULATOR, headers={"X-Team": "a"}), HEADERS) == ()


def test_of_an_authorization_the_token_is_a_secret_also_without_its_scheme() -> None:
    provider = ProviderConfig(base_url=SIMULATOR, headers_env={"Authorization": "BEARER"})
    assert set(secrets(provider, HEADERS)) == {"Bearer tok-secret", "tok-secret"}


def test_an_authorization_of_the_environment_stands_for_openais_key() -> None:
    provider = ProviderConfig(headers_env={"Authorization": "BEARER"})
    assert api_key(provider, HEADERS) is None
    assert api_key(provider, {}) is None


def test_a_config_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_KEY", "LOCAL_HEADER"):
        monkeypatch.setenv(name, "sk-local-secret")
    assert b"sk-local-secret" not in msgspec.json.encode(load(written(tmp_path)))
    assert "sk-local-secret" in os.environ["LOCAL_KEY"]


# What a resume compares


@pytest.mark.parametrize(
    "override",
    [
        "task.model=other",
        "task.prompt=other",
        "task.system=other",
        "task.params.seed=1",
        "input.id=other",
        'output.include=["meta"]',
        "task.template=format",
        "task.images=[]",
        "task.per_row.seed=column",
        "task.schema.title=Other",
        "task.rows_per_request=auto",
        "input.format=tsv",
        "input.encoding=utf-16",
        "input.delimiter=,",
        "input.sheet=Other",
        "input.split=test",
    ],
)
def test_the_fingerprint_changes_with_everything_that_the_output_depends_on(tmp_path: Path, override: str) -> None:
    path = written(tmp_path, FULL.replace('model = "m-of-local"', ""))
    before, after = fingerprint(load(path)), fingerprint(load(path, [override]))
    changed = [key for key in before | after if before.get(key) != after.get(key)]
    assert changed == [".".join(override.partition("=")[0].split(".")[:2])]


@pytest.mark.parametrize(
    "override", ["workers.count=1", "retry.attempts=1", "provider.timeout_s=1", 'output.include=["meta", "input"]']
)
def test_the_fingerprint_stays_when_the_output_bytes_stay(tmp_path: Path, override: str) -> None:
    path = written(tmp_path)
    assert fingerprint(load(path)) == fingerprint(load(path, [override]))


def test_of_the_output_formats_the_fingerprint_has_only_whether_replies_are_kept_whole() -> None:
    without, csv, batch = (
        fingerprint(parse(tree(output={"format": name}), "c.toml")) for name in ("jsonl", "csv", "batch")
    )
    assert without == csv
    assert batch == csv | {"output.format": "batch"}


def test_messages_and_a_run_without_a_model_of_its_own_are_in_the_fingerprint() -> None:
    read = parse(tree(task={"prompt": None, "model": None, "messages": "chat", "per_row": {"model": "m"}}), "c.toml")
    found = fingerprint(read)
    assert (found["task.messages"], found["task.model"], found["task.prompt"]) == ("chat", None, None)
    assert [read.model_of(provider) for provider in read.provider] == [None]
    mixed = tables({"model": "x"}, {}) | {"input": {"path": "in.jsonl", "format": "batch"}, "task": {}}
    assert fingerprint(parse(mixed, "c.toml"))["task.model"] == [None, "x"], "lines keep theirs at the second one"


def test_a_fingerprint_of_the_first_version_is_still_the_same() -> None:
    """Its keys and values as they stand in the manifests of runs that were begun with it."""
    assert fingerprint(parse(tree(provider=[{"base_url": SIMULATOR}]), "c.toml")) == {
        "task.api": "chat.completions",
        "task.model": "m",
        "task.system": None,
        "task.prompt": "Say {text}",
        "task.params": {},
        "input.id": None,
        "output.include": [],
    }


@pytest.mark.parametrize(
    ("document", "models"),
    [
        (tables({}, {}), "m"),
        (tables({}, {"model": "m"}), "m"),
        (tables({"model": "x"}, {"model": "x"}), "x"),
        (tables({}, {"model": "x"}), ["m", "x"]),
        (tables({"model": "x"}, {}, {"model": "x"}, {"weight": 0}), ["m", "x"]),
        (tables({"model": "z"}, {"model": "y"}), ["y", "z"]),
    ],
)
def test_of_the_providers_the_fingerprint_has_only_which_models_there_are(document: Any, models: Any) -> None:
    assert fingerprint(parse(document, "c.toml")) == fingerprint(parse(tree(), "c.toml")) | {"task.model": models}


def test_the_members_of_extra_body_are_put_on_top_of_the_others() -> None:
    config = parse(tree(task={"params": {"top_k": 1, "seed": 2, "extra_body": {"top_k": 5, "a": {"b": 1}}}}), "test")
    assert config.task.params == {"top_k": 5, "seed": 2, "a": {"b": 1}}
    assert parse(tree(task={"params": {"extra_body": {}}}), "test").task.params == {}


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("in.jsonl", "."), ("data/in.jsonl", "data"), ("/data/in.csv", "/data"), ("data/*/rows-[0-9].jsonl", "data"),
        ("*.csv", "."), ("s3://bucket/rows.jsonl", None), ("https://h/rows.csv", None),
    ],
)  # fmt: skip
def test_images_lie_beside_the_input(path: str, root: str | None) -> None:
    assert parse(tree(input={"path": path}), "c.toml").input.images_root == (None if root is None else Path(root))
    told = parse(tree(input={"path": path, "images_dir": "photos"}), "c.toml")
    assert told.input.images_root == Path("photos")


def test_images_of_a_directory_of_inputs_lie_in_it(tmp_path: Path) -> None:
    assert parse(tree(input={"path": str(tmp_path)}), "c.toml").input.images_root == tmp_path


def test_lines_of_a_batch_file_may_say_themselves_how_many_tokens_a_reply_has() -> None:
    document = tree(input={"format": "batch"}, retry={"on_finish": ["length"]})
    del document["task"]
    assert parse(document, "c.toml").retry.grows
    assert "retry.on_finish" in refusal(document | {"retry": {"on_finish": ["stop"]}})


def test_what_is_of_one_step_is_asked_for_where_any_step_has_it() -> None:
    """More room for replies that are cut, a way to ask for a schema, streams."""
    first = {"name": "a", "params": {"max_tokens": 10}, "schema": {"type": "object"}}
    provider = [{"stream": True, "schema_by": "tool"}]
    steps = tree(retry={"on_finish": ["length"]}, provider=provider, step=[first, {"name": "b", "api": "embeddings"}])
    assert parse(steps, "c.toml").retry.grows
    assert "retry.on_finish" in refusal(steps | {"step": [first | {"params": {}}, {"name": "b"}]})
    assert "provider.schema_by" in refusal(steps | {"step": [{"name": "a", "params": {"max_tokens": 10}}]})
    assert "step.fail_on_finish of 'b'" in refusal(
        steps | {"step": [first, {"name": "b", "fail_on_finish": ["SAFETY"]}]}
    )
