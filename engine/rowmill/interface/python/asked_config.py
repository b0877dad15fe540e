"""What a call was given -> the configuration that it asks for."""

import difflib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rowmill.core import config as configuration
from rowmill.core.config import Config, ProviderConfig, TaskConfig
from rowmill.core.config.reading import SECTIONS
from rowmill.core.config.sections import REPLY_PARTS, ModelSchema
from rowmill.core.errors import ConfigError
from rowmill.interface.python.place import MapPlace
from rowmill.interface.python.row_lines import TEXT
from rowmill.runs.piped_rows import is_named_as_rows
from rowmill.tasks import models
from rowmill.tasks.pickled_types import pickled

FIGURES = ("usage", "cost")  # that `include` may name beside the parts of a reply

_OF_TASK = frozenset(TaskConfig.__struct_fields__)
_OF_PROVIDER = frozenset(ProviderConfig.__struct_fields__) - _OF_TASK  # the model is the task's
# Those of the input, the task and the output are made by `map`, which asks one question.
_SECTIONS = [name for name in Config.__struct_fields__ if name not in {"input", "task", "output", "step"}]
_OF_CALL = (
    "id", "images_dir", "documents_dir", "run_dir", "retry_failed", "fresh", "limit", "sample", "prefix", "include",
    "progress", "schema",
)  # fmt: skip
_SOME_SCHEMA = {"type": "object"}  # in the place of a type's, while the rest is checked
_FAR = 0.6  # a name less like than this is no slip
# Members of requests that people write beside the model, as with the openai package.
_OF_REQUEST = frozenset({
    "audio", "extra_body", "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_output_tokens",
    "max_tokens", "metadata", "modalities", "n", "parallel_tool_calls", "presence_penalty", "reasoning",
    "reasoning_effort", "seed", "service_tier", "stop", "store", "temperature", "tool_choice", "tools", "top_k",
    "top_logprobs", "top_p", "user", "verbosity",
})  # fmt: skip
_MEANT = {
    **dict.fromkeys(("api_base", "endpoint", "url"), "base_url"),
    "api_key": "api_key_env, with the name of the variable that holds it",
    **dict.fromkeys(("concurrency", "max_concurrency"), 'workers={"concurrency": ...}'),
    **dict.fromkeys(("max_workers", "n_jobs"), 'workers={"count": ...}'),
    "batch_size": 'workers={"concurrency": ...} for requests at once, rows_per_request for rows in one of them',
    "step": "of rowmill.run, with a configuration: rowmill.map asks one question",
    **dict.fromkeys(("force", "overwrite", "restart"), "fresh"),
    **dict.fromkeys(("max_retries", "retries"), 'retry={"attempts": ...}'),
    **dict.fromkeys(("max_usd", "max_cost"), 'budget={"max_usd": ...}'),
    **dict.fromkeys(("instructions", "system_prompt"), "system"),
    **dict.fromkeys(("output_type", "response_format", "response_model"), "schema"),
    **dict.fromkeys(("head", "max_rows", "n_rows"), "limit"),
    "input": "prompt",
    **dict.fromkeys(("cache_dir", "checkpoint_dir", "output_dir", "resume"), "run_dir"),
    **dict.fromkeys(("disable_tqdm", "show_progress", "tqdm", "verbose"), "progress"),
    "rpm": "requests_per_minute",
    "timeout": "timeout_s",
    "tpm": "tokens_per_minute",
}


def is_trial(call: str, limit: Any, sample: Any) -> bool:
    """Tell whether only some rows are asked. Raises `ConfigError` where these are no numbers of rows, or both."""
    for name, value in (("limit", limit), ("sample", sample)):
        if value is not None and (type(value) is not int or value < 1):
            raise ConfigError(f"{call}: {name}: must be a number of rows, 1 or more, not {value!r}")
    if limit is not None and sample is not None:
        raise ConfigError(f"{call}: limit asks the first rows and sample random ones, not both; leave out one of them")
    return limit is not None or sample is not None


def check_call(options: Mapping[str, Any]) -> None:
    """Refuse what a `map` cannot be called with, of what belongs to the call. Raises `ConfigError`."""
    is_trial("rowmill.map", options.get("limit"), options.get("sample"))
    for name, kinds, what in (("run_dir", str | os.PathLike, "a path"), ("prefix", str, "a text")):
        if (value := options.get(name)) is not None and not isinstance(value, kinds):
            raise ConfigError(f"rowmill.map: {name}: must be {what}, not {value!r:.40}")
    if options.get("retry_failed") and options.get("run_dir") is None:
        raise ConfigError("rowmill.map: retry_failed: name the run_dir in which the failed rows are")
    if options.get("fresh") and options.get("run_dir") is None:
        raise ConfigError("rowmill.map: fresh: name the run_dir in which a new run is to begin")
    if options.get("fresh") and options.get("retry_failed"):
        raise ConfigError("rowmill.map: fresh begins anew, and retry_failed goes on; leave out one of them")


def read(config: str | os.PathLike[str] | Mapping[str, Any] | Config, overrides: Mapping[str, Any]) -> Config:
    """Read the configuration of a `run`; a schema may be a type, that of a step, too."""
    types = _Types()
    overrides = {key: types.marked(value) if key.endswith(".schema") else value for key, value in overrides.items()}
    if isinstance(config, Mapping):
        config = {**config}
        if isinstance(task := config.get("task"), Mapping):
            config["task"] = types.without(task)
        if isinstance(steps := config.get("step"), list):
            config["step"] = [types.without(step) if isinstance(step, Mapping) else step for step in steps]
    elif isinstance(config, Config):
        config = _with_schemas(config, types.marked)
    made = _read(config, overrides)
    if made.step and overrides.get("task.schema") is not None:
        key = f"step.{made.step[0].name}.schema"
        raise ConfigError(f'rowmill.run: schema: each step has its own; pass it as overrides={{"{key}": ...}}')
    return _with_schemas(made, types.put_back)


class _Types:
    """Types of Python that are schemas: a mark stands in the place of each while the rest is read and checked."""

    def __init__(self) -> None:
        self._made: dict[str, ModelSchema] = {}

    def without(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """Return `[task]`, or a step, with a mark where its schema is a type."""
        return {name: self.marked(value) if name == "schema" else value for name, value in task.items()}

    def marked(self, schema: Any) -> Any:
        """Return a schema, or the mark of one that is a type. Raises `ConfigError`."""
        if not is_type(schema) and not isinstance(schema, ModelSchema):
            return schema
        made = schema if isinstance(schema, ModelSchema) else models.of_type(schema, code=pickled(schema))
        if made.code == b"":  # nobody here reads the results
            raise ConfigError(
                f"task.schema: {made.name} cannot be taken to the workers; define it in a module of its own"
            )
        mark = f"type {len(self._made)} of the program"
        self._made[mark] = made
        return {**_SOME_SCHEMA, "$comment": mark}

    def put_back(self, schema: Any) -> Any:
        """Return the schema that a mark stands for, and any other as it is."""
        mark = schema.get("$comment") if isinstance(schema, dict) else None
        return self._made.get(mark, schema) if isinstance(mark, str) else schema


def _with_schemas(config: Config, changed: Callable[[Any], Any]) -> Config:
    """Return a configuration with other schemas in its task and in its steps."""
    task = msgspec.structs.replace(config.task, schema=changed(config.task.schema))
    step = [msgspec.structs.replace(each, schema=changed(each.schema)) for each in config.step]
    return msgspec.structs.replace(config, task=task, step=step)


def _read(config: str | os.PathLike[str] | Mapping[str, Any] | Config, overrides: Mapping[str, Any]) -> Config:
    changes = [f"{key}={_toml(key, value)}" for key, value in _by_keys(overrides)]
    if isinstance(config, Config) and not changes:
        return config
    if not isinstance(config, Mapping | Config | str | os.PathLike):
        kind = type(config).__name__
        raise ConfigError(f"rowmill.run: config: pass the path of a config.toml, or the same as dicts, not a {kind}")
    if not isinstance(config, Mapping | Config):
        path = Path(config)
        if path.suffix != ".toml" and is_named_as_rows(str(path)) and path.exists():
            raise ConfigError(
                f"rowmill.run: {path} holds rows, and is no configuration. To ask about each row: "
                f'rowmill.map(pathlib.Path({str(path)!r}), model="...", prompt="...")'
            )
        return configuration.load(path, changes)
    tree = plain(config)
    for change in changes:
        configuration.override(tree, change)
    return configuration.parse(tree, "rowmill.run")


def _by_keys(overrides: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield overrides by their whole keys; those of a section may be given as its dict."""
    for key, value in overrides.items():
        if isinstance(value, Mapping) and key in SECTIONS:
            yield from ((f"{key}.{name}", each) for name, each in value.items())
        else:
            yield key, value


def is_type(schema: Any) -> bool:
    """Tell whether a schema is a type of Python, and neither a JSON Schema nor where one is."""
    return schema is not None and not isinstance(schema, str | Mapping | os.PathLike | ModelSchema)


def with_model(config: Config, schema: ModelSchema) -> Config:
    """Return a checked configuration with the schema of a type."""
    return msgspec.structs.replace(config, task=msgspec.structs.replace(config.task, schema=schema))


def plain(value: Any) -> dict[str, Any]:
    """Copy a configuration into dicts and lists; paths may be `Path`s."""
    try:
        tree: dict[str, Any] = msgspec.to_builtins(value, enc_hook=os.fspath)
    except RecursionError:
        raise ConfigError("the configuration lies in itself, or is nested too deep") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"a value of the configuration is none that TOML has: {error}") from None
    return tree


def _toml(key: str, value: Any) -> str:
    """Write a value as TOML has it on one line."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case os.PathLike():
            return _toml(key, os.fspath(value))
        case Mapping():
            return f"{{{', '.join(f'{_toml(key, str(name))} = {_toml(key, each)}' for name, each in value.items())}}}"
        case Sequence():
            return f"[{', '.join(_toml(key, each) for each in value)}]"
    raise ConfigError(f"rowmill.run: {key}: a {type(value).__name__} is no value of a configuration")


def of_map(options: Mapping[str, Any], schema: Any, place: MapPlace, source: os.PathLike[str] | None = None) -> Config:
    """Make the configuration of a `map` with these options. source: the file, where the rows are one.

    Raises `ConfigError` with what is wrong, and for an option that there is none of with what may be meant.
    """
    made = models.of_type(schema, code=pickled(schema)) if is_type(schema) else None
    tree = _tree(options, schema if made is None else _SOME_SCHEMA, place, source)
    config = configuration.parse(tree, "rowmill.map")
    return config if made is None else with_model(config, made)


def _tree(
    options: Mapping[str, Any], schema: Any, place: MapPlace, source: os.PathLike[str] | None = None
) -> dict[str, Any]:
    include = options.get("include") or ()
    known = (*REPLY_PARTS, *FIGURES)
    wrong = [include] if isinstance(include, str) else [part for part in include if part not in known]
    if wrong:
        raise ConfigError(f"rowmill.map: include: {wrong[0]!r}: must be a list of any of {', '.join(known)}")
    task: dict[str, Any] = {"schema": schema}
    provider: dict[str, Any] = {}
    sections: dict[str, Any] = {}
    for name, value in options.items():
        if name in _OF_TASK:
            task[name] = value
        elif name in _OF_PROVIDER:
            provider[name] = value
        elif name in _SECTIONS:
            _check_section(name, value)
            sections[name] = value
        elif name not in _OF_CALL:
            raise ConfigError(f"rowmill.map: unknown option {name}; {_meant(name)}")
    if task.get("prompt") is None and task.get("messages") is None:
        task["prompt"] = f"{{{TEXT}}}"
    provider = {name: value for name, value in provider.items() if value is not None}
    if provider and "provider" in sections:
        raise ConfigError(f"rowmill.map: with provider=[...] put {next(iter(provider))} into each of them")
    if not isinstance(checkpoint := sections.get("checkpoint", {}), Mapping) or "dir" in checkpoint:
        raise ConfigError("rowmill.map: checkpoint.dir is made from run_dir; name that")
    # Rows that lie nowhere: what they name is seen from where the program is.
    beside = {key: options.get(key, "." if source is None else None) for key in ("images_dir", "documents_dir")}
    rows = {"path": place.rows, "format": "jsonl"} if source is None else {"path": source}
    return plain(
        {
            **({"provider": [provider]} if provider else {}),
            **sections,
            "checkpoint": {**checkpoint, "dir": place.run},
            "input": {
                **rows,
                **{key: value for key, value in beside.items() if value is not None},
                **({} if options.get("id") is None else {"id": options["id"]}),
            },
            "task": {name: value for name, value in task.items() if value is not None},
            "output": {"path": place.results, "format": "jsonl", "include": _parts(include)},
        }
    )


def _check_section(name: str, value: Any) -> None:
    """Refuse what is no section, in the words of Python. What its keys may be is told by the configuration's checks."""
    if name == "provider":
        if not isinstance(value, Sequence) or not all(isinstance(each, Mapping) for each in value):
            raise ConfigError('rowmill.map: provider: must be a list of dicts, as provider=[{"base_url": ...}, ...]')
    elif not isinstance(value, Mapping):
        key = next(iter(SECTIONS[name].__struct_fields__)) if name in SECTIONS else "gpt-x"
        raise ConfigError(f'rowmill.map: {name}: must be a dict, as {name}={{"{key}": ...}}, not {value!r:.40}')


def _parts(include: Sequence[str]) -> list[str]:
    """Return what the output lines must have for what is wanted: what a row cost is told by who answered it."""
    return [*(part for part in include if part not in FIGURES), *(["meta"] if "cost" in include else [])]


def _meant(name: str) -> str:
    if name in _MEANT:
        return f"it is {_MEANT[name]}"
    if name in _OF_REQUEST:
        return f'it is a member of the request: params={{"{name}": ...}}'
    for request in difflib.get_close_matches(name, _OF_REQUEST, n=1, cutoff=0.8):
        return f'did you mean params={{"{request}": ...}}?'
    known = [*_OF_CALL, *_OF_TASK, *_OF_PROVIDER, *_SECTIONS]
    turned = [each for each in known if sorted(each) == sorted(name)]  # letters that changed places
    nearest = turned or difflib.get_close_matches(name, known, n=1, cutoff=_FAR)
    return f"did you mean {nearest[0]}?" if nearest else f"options are {', '.join(sorted({*known}))}"
