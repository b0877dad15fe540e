"""What the `[[step]]` tables can still get wrong, each by itself and all of them together."""

import re
from collections.abc import Iterator

from rowmill.core import conditions
from rowmill.core.config import steps, task_checks
from rowmill.core.config.sections import Config, StepConfig
from rowmill.core.errors import ConfigError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")  # of a column, and of a directory
_MOST = 32


def problems(config: Config) -> Iterator[str]:
    """Yield what is wrong, each as a line that begins with the key, and with the step where there are several."""
    yield from _together(config)
    for number, step in enumerate(config.step):
        of = f" of {step.name!r}" if len(config.step) > 1 else ""
        for key, problem in _problems(config, number):
            yield f"step.{key}{of}: {problem}"
        for problem in task_checks.problems(steps.of_step(config, number)):
            key, _, rest = problem.partition(": ")
            of_task = key.startswith("task.")  # what is wrong with the output is wrong whatever the step
            text = f"{key}{of}: {rest}" if of_task else problem
            yield text.replace("task.", "step.")


def _together(config: Config) -> Iterator[str]:
    if len(config.step) > _MOST:
        yield f"step: there are {len(config.step)}; a run has {_MOST} at most, for each has processes of its own"
    if config.task.mode != "live":
        yield f'task.mode: "{config.task.mode}" is of runs of one step; leave it out, or ask the steps one by one'
    if config.cluster.used:
        yield "cluster.engine: several steps run on one machine; leave it out, or ask the steps one by one"
    for key, format_ in (("input", config.input.format), ("output", config.output.format)):
        if format_ == "batch":
            yield f'{key}.format: "batch" is of runs of one step; choose another, or remove the [[step]] tables'


def _problems(config: Config, number: int) -> Iterator[tuple[str, str]]:
    step = config.step[number]
    if not _NAME.fullmatch(step.name):
        yield "name", f"{step.name!r} must be 1 to 64 letters, digits, '-' or '_', and begin with no digit"
    if any(step.name.lower() == other.name.lower() for other in config.step[:number]):
        yield "name", f"{step.name!r} is the name of two; give each its own"
    if step.mode != "live" and config.task.mode == "live":
        yield "mode", "steps ask by live requests; remove it"
    if step.api == "embeddings" and number < len(config.step) - 1:
        yield "api", "no step can ask about a vector; embeddings are for the last one"
    names = {each.name for each in config.provider}
    named = [step.provider] if isinstance(step.provider, str) else step.provider
    if named is not None and not named:
        yield "provider", "must name one at least; leave it out for all"
    for name in named or ():
        if name not in names:
            yield "provider", f"no provider is called {name!r}; there are {', '.join(sorted(names))}"
    if step.compares and (len(step.compares) != 2 or len(set(step.compares)) != 2):  # noqa: PLR2004 - a comparison
        yield "compares", "must name two different ones: steps before it, or columns"
    if step.compares and (step.api in ("embeddings", "moderations") or step.params.get("n", 1) != 1):
        yield "compares", "a verdict is one reply, a text or an object; ask no api that gives another, and leave out n"
    yield from _where_problems(step)


def _where_problems(step: StepConfig) -> Iterator[tuple[str, str]]:
    if step.where is None:
        return
    if not step.where.strip():
        yield "where", "must not be empty; leave it out to let every row go on"
        return
    try:
        conditions.condition(step.where, "step.where")
    except ConfigError as error:
        yield "where", str(error).removeprefix("step.where ")
