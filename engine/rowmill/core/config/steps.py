"""A run of several steps: what each of them is, as the configuration of a run of its own."""

from typing import Any

import msgspec

from rowmill.core.config.sections import Config, ProviderConfig, StepConfig, TaskConfig
from rowmill.core.rows import StepOfRun

_OF_TASK = TaskConfig.__struct_fields__


def count(config: Config) -> int:
    """Return how many steps a run has: one where there is no `[[step]]`."""
    return len(config.step) or 1


def inherited(task: dict[str, Any], step: dict[str, Any]) -> dict[str, Any]:
    """Return a decoded `[[step]]` with what it has of `[task]`; what both say of the request's members is put together.

    Not the model: one that a step names wins over that of a provider, and one of `[task]` does not.
    """
    together = {key: value for key, value in task.items() if key != "model"} | step
    if isinstance(task.get("params"), dict) and isinstance(step.get("params"), dict):
        together["params"] = task["params"] | step["params"]
    if "prompt" in step or "messages" in step:  # the one stands in the place of the other
        for key in {"prompt", "messages"} - step.keys():
            together.pop(key, None)
    return together


def of_step(config: Config, number: int) -> Config:
    """Return the configuration of one step, as of a run of its own; without steps that is the run's.

    Of steps before the last one the output lines hold what the next step is to know: the row, and how often it was
    asked. Those of the last one have the row, too, in which the answers of the others are.
    """
    if not config.step:
        return config
    step = config.step[number]
    task = TaskConfig(**{key: getattr(step, key) for key in _OF_TASK})
    if step.model is None:
        task = msgspec.structs.replace(task, model=config.task.model)
    output = config.output
    if number < len(config.step) - 1:
        output = msgspec.structs.replace(output, format="jsonl", include=["input", "meta"])
    elif "input" not in output.include:
        output = msgspec.structs.replace(output, include=["input", *output.include])
    return msgspec.structs.replace(
        config,
        task=task,
        provider=[_as_asked(config, step, each) for each in _of(config, step)],
        output=output,
        step=[],
    )


def with_last(config: Config) -> Config:
    """Return the configuration of the run with the task and the output lines of its last step, which are its own."""
    if not config.step:
        return config
    last = of_step(config, len(config.step) - 1)
    # The model is left as it is: steps that name none have it.
    task = last.task if config.task.model is None else msgspec.structs.replace(last.task, model=config.task.model)
    return msgspec.structs.replace(config, task=task, output=last.output)


def providers_of(config: Config, number: int) -> tuple[int, ...]:
    """Return the numbers of the providers that a step may ask, in the order in which its configuration has them."""
    if not config.step:
        return tuple(range(len(config.provider)))
    asked = _of(config, config.step[number])
    return tuple(config.provider.index(each) for each in asked)


def columns_of(step: StepConfig) -> list[str]:
    """Return the columns that a step's answers are to the steps behind it: of an object, one for each member."""
    return [step.name] if (fields := _fields(step)) is None else [f"{step.name}.{field}" for field in fields]


def of_run(config: Config, number: int) -> StepOfRun | None:
    """Return what a worker has to know of the step that it is at work on; None where there are no steps."""
    if not config.step:
        return None
    step = config.step[number]
    fields = _fields(step)
    return StepOfRun(
        name=step.name,
        previous=config.step[number - 1].name if number else None,
        last=number == len(config.step) - 1,
        where=step.where,
        fields=None if fields is None else tuple(fields),
    )


def _fields(step: StepConfig) -> list[str] | None:
    """Return the members of the object that each answer is; None where that is not known, or it is none."""
    schema = step.reply_schema
    if schema is None or step.params.get("n", 1) != 1:
        return None
    properties = schema.get("properties")
    return [*map(str, properties)] if isinstance(properties, dict) and properties else None


def _named(step: StepConfig) -> list[str]:
    return [] if step.provider is None else [step.provider] if isinstance(step.provider, str) else step.provider


def _of(config: Config, step: StepConfig) -> list[ProviderConfig]:
    """Return the providers that a step names, with those that take what fails there; all where it names none."""
    named = _named(step)
    if not named:
        return config.provider
    fallbacks = {name for each in config.provider if each.name in named for name in each.fallback}
    return [each for each in config.provider if each.name in named or each.name in fallbacks]


def _as_asked(config: Config, step: StepConfig, provider: ProviderConfig) -> ProviderConfig:
    """Return a provider as a step asks it: of its model, and by its weight, where the step names it at all."""
    named = _named(step)
    weight = provider.weight
    if named:
        weight = (weight or 1.0) if provider.name in named else 0.0
    model = provider.model if step.model is None else None
    known = {each.name for each in _of(config, step)}
    fallback = [name for name in provider.fallback if name in known]
    return msgspec.structs.replace(provider, weight=weight, model=model, fallback=fallback)
