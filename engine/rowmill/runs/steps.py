"""The steps of a run before it starts: each is held against the columns that it will find, and made ready.

A run of one question is one of one step; what is said here of names and columns of others is then nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from rowmill.core import conditions, win_rates
from rowmill.core import config as configuration
from rowmill.core.amounts import Price
from rowmill.core.config import Config, steps
from rowmill.core.config.sections import StepConfig
from rowmill.core.errors import ConfigError, InputError
from rowmill.core.rows import Column, Layout
from rowmill.core.wire import Endpoint
from rowmill.files.input.inputs import Input
from rowmill.supervisor.prepared import PreparedStep
from rowmill.tasks import Task
from rowmill.tasks import schema as schemas
from rowmill.tasks.factory import open_task
from rowmill.tasks.readers import choices_asked
from rowmill.transport.request_head import with_head

CHECKED_ROWS = 100  # first rows looked at for the columns that the configuration names
_SAMPLE: dict[str, Any] = {"string": "text", "int64": 1, "double": 1.0, "bool": True, "json": {}}


def with_schemas(config: Config) -> Config:
    """Return the configuration with the schemas of its steps in the place of their files. Raises `ConfigError`."""
    resolved = []
    for number, step in enumerate(config.step):
        with _told_of(config, number):
            resolved.append(schemas.resolved(step))
    return msgspec.structs.replace(config, step=resolved)


def checked_tasks(config: Config, found: Input) -> list[Task]:
    """Open the task of each step of a settled configuration, and refuse it where it does not fit its first rows.

    Raises `RowmillError`s, which name the step.
    """
    tasks = []
    for number, lines in enumerate(rows_of_steps(config, found)):
        own = steps.of_step(config, number)
        with _told_of(config, number):
            task = open_task(own.task, own.input, whole_reply=own.output.format == "batch", parts=own.output.parts)
            task.check(lines, found.where)
        tasks.append(task)
    return tasks


def rows_of_steps(config: Config, found: Input) -> Iterator[list[bytes]]:
    """Yield first rows as each step finds them: of the input, with something in the place of each answer before.

    Raises `InputError` and `ConfigError` where a step's name, or a condition, does not fit them.
    """
    lines = found.first_rows(CHECKED_ROWS)
    yield lines
    for step in config.step:
        lines = [msgspec.json.encode(row) for row in _answered(step, lines, found.where)]
        if step is not config.step[-1]:
            yield lines


def all_of(config: Config) -> list[Config]:
    """Return the configuration of each step."""
    return [steps.of_step(config, number) for number in range(steps.count(config))]


def prepared_steps(
    config: Config,
    endpoints: Sequence[list[Endpoint]],
    prices: Sequence[list[Price | None]],
    found: Input,
) -> list[PreparedStep]:
    """Return the steps of a settled configuration. `endpoints`, `prices`: of the providers of each."""
    made = []
    more: tuple[Column, ...] = ()
    for number, own in enumerate(all_of(config)):
        made.append(
            PreparedStep(
                config=own,
                providers=steps.providers_of(config, number),
                endpoints=endpoints[number],
                prices=prices[number],
                layout=_layout(own, found, more),
                worker=steps.of_run(config, number),
            )
        )
        if config.step:
            more += _columns(config.step[number])
    return made


def endpoints_of(config: Config, environ: Mapping[str, str]) -> list[list[Endpoint]]:
    """Return where the requests of each step go and what they carry, for each of its providers.

    What is a secret of one is of all: rows go from one step to the next. Raises `ConfigError`.
    """
    params = {step.name: step.params for step in config.step} if config.step else config.task.params
    found = configuration.endpoints(config.provider, environ, config.client.ca_file, params)
    return [
        [with_head(found[each], own.task.api, environ) for each in steps.providers_of(config, number)]
        for number, own in enumerate(all_of(config))
    ]


def _layout(config: Config, found: Input, more: tuple[Column, ...]) -> Layout:
    """Return what a table of a step's lines holds. `more`: columns that the steps before have made."""
    columns = (*found.columns(), *more) if "input" in config.output.include else ()
    return Layout(input_columns=columns, fields=_fields(config.task), vectors=config.task.api == "embeddings")


def _fields(task: configuration.TaskConfig) -> tuple[Column, ...]:
    schema = task.reply_schema
    if schema is None or choices_asked(task) != 1:  # those of several choices are a list
        return ()
    return schemas.fields(schema)


def _columns(step: StepConfig) -> tuple[Column, ...]:
    """Return the columns that a step's answers become, with their types."""
    types = {f"{step.name}.{field.name}": field.type for field in _fields(step)}
    text = step.schema is None and choices_asked(step) == 1 and step.api != "moderations"
    return tuple(Column(name, types.get(name, "string" if text else "json")) for name in steps.columns_of(step))


def _answered(step: StepConfig, lines: Sequence[bytes], where: str) -> list[dict[str, Any]]:
    """Return first rows as they will be once a step has answered them. Raises `InputError` and `ConfigError`."""
    rows = _objects(lines)
    columns = _columns(step)
    for column in columns:
        if any(column.name in row for row in rows):
            raise InputError(
                f"{where}: has a column {column.name!r} already, which step {step.name!r} would make; "
                "call the step otherwise"
            )
    if rows:
        _check_compared(step, list(dict.fromkeys(name for row in rows for name in row)))
    if rows and step.where is not None:
        _check_names(step, rows)
    return [{**row, **{column.name: _SAMPLE[column.type] for column in columns}} for row in rows]


def _objects(lines: Sequence[bytes]) -> list[dict[str, Any]]:
    rows = []
    for line in lines:
        try:
            row = msgspec.json.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _check_names(step: StepConfig, rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a condition on what nobody makes: it would hold for no row, and the run would be for nothing."""
    fields = [field.name for field in _fields(step)]
    if step.schema is not None and not fields:
        return  # what its answers have in them is not known
    columns = dict.fromkeys(name for row in rows for name in row)
    known = [*fields, *columns, *(f"{step.name}.{field}" for field in fields), step.name, *conditions.OF_ROWS]
    for name in conditions.names(step.where or ""):
        if name not in known and name.partition(".")[0] not in {*fields, *columns, *conditions.OF_ROWS}:
            import difflib  # only here: workers need none

            nearest = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(
                f"step.where of {step.name!r}: nothing is called {name!r}; "
                f"{f'did you mean {nearest[0]!r}? ' if nearest else ''}there are {', '.join([*fields, *columns])}, "
                "and output for the whole answer"
            )


def _check_compared(step: StepConfig, columns: Sequence[str]) -> None:
    """Refuse a step that compares what is not there, or whose answers hold no verdict: nobody would win."""
    for name in step.compares:
        if not any(name == column or column.startswith(f"{name}.") for column in columns):
            raise ConfigError(
                f"step.compares of {step.name!r}: {name!r} is neither a step before it nor a column; "
                f"there are {', '.join(columns)}"
            )
    properties = (step.reply_schema or {}).get("properties")
    if not step.compares or not isinstance(properties, dict):
        return
    member = properties.get(win_rates.WINNER)
    words = member.get("enum", win_rates.WORDS) if isinstance(member, dict) else ()
    found = {win_rates.verdict(word) for word in words}
    if not {win_rates.FIRST, win_rates.SECOND} <= found or win_rates.UNREADABLE in found:
        raise ConfigError(
            f"step.compares of {step.name!r}: its schema must have a member {win_rates.WINNER!r} that is one of "
            f"{', '.join(win_rates.WORDS)}"
        )


@contextmanager
def _told_of(config: Config, number: int) -> Iterator[None]:
    """Have what is wrong with a task told of the step that it is of."""
    if not config.step:
        yield
        return
    step = config.step[number]
    of = f" of {step.name!r}" if len(config.step) > 1 else ""
    try:
        yield
    except ConfigError as error:
        key, _, rest = str(error).partition(": ")
        raise ConfigError(f"{key.replace('task.', 'step.')}{of}: {rest}") from None
    except InputError as error:
        told = str(error).replace("which task.", f"which step {step.name!r} by its ")
        raise InputError(f"{told}{_made_later(config, number, told)}") from None


def _made_later(config: Config, number: int, told: str) -> str:
    """Say who makes the column that a step lacks, where that is itself or a step behind it."""
    for later in config.step[number:]:
        if any(f"no column {column!r}," in told for column in (later.name, *steps.columns_of(later))):
            return f"; step {later.name!r} makes it, and is asked {'then' if later is config.step[number] else 'later'}"
    return ""
