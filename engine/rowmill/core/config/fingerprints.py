"""What the output bytes of a run depend on: held against the configuration by which it is resumed."""

from typing import Any

from rowmill.core.config.hidden import hidden
from rowmill.core.config.sections import Config
from rowmill.core.config.steps import of_step


def fingerprint(config: Config) -> dict[str, Any]:
    """Return everything of the configuration that the output bytes depend on, by key.

    A resume with another value is refused: its rows would be answers to another question. Of the models only which
    there are counts, not which provider has them: a model by itself where there is one, else the sorted list.
    Give it the configuration as it is run: task.schema read from its file, task.api of a batch file's lines.
    """
    if config.step:
        return _of_steps(config)
    models = sorted({config.model_of(provider) for provider in config.provider}, key=lambda model: model or "")
    always = {
        "task.api": config.task.api,
        "task.model": models[0] if len(models) == 1 else models,
        "task.system": config.task.system,
        "task.prompt": config.task.prompt,
        "task.params": hidden(config.task.params),
        "input.id": config.input.id,
        "output.include": sorted(config.output.include),
    }
    # Left out where they are what they were before there was such a key: runs that began then can be resumed.
    later: dict[str, tuple[Any, Any]] = {
        "task.template": (config.task.template, "format"),
        "task.messages": (config.task.messages, None),
        "task.images": (config.task.images, []),
        "task.documents": (config.task.documents, {}),
        "task.document_pages": (config.task.document_pages, 100),
        "task.document_characters": (config.task.document_characters, 200_000),
        "task.per_row": (config.task.per_row, {}),
        "task.schema": (config.task.reply_schema, None),
        "task.strict_json": (config.task.strict_json, False),
        "task.fail_on_finish": (sorted(set(config.task.fail_on_finish)), []),
        "task.rows_per_request": (config.task.rows_per_request, "auto"),
        "input.format": ("auto" if config.input.format == "jsonl" else config.input.format, "auto"),
        "input.encoding": (config.input.codec, "utf-8"),
        "input.delimiter": (config.input.delimiter, None),
        "input.sheet": (config.input.sheet, None),
        "input.split": (config.input.split, None),
        # Of the formats only whether replies are kept whole: the others are made of the same lines.
        "output.format": ("batch" if config.output.format == "batch" else None, None),
    }
    return always | {key: value for key, (value, before) in later.items() if value != before}


def _of_steps(config: Config) -> dict[str, Any]:
    """Return everything that the output bytes of a run of several steps depend on, by key; see `fingerprint`."""
    found: dict[str, Any] = {"step": [step.name for step in config.step]}
    for number, step in enumerate(config.step):
        own = fingerprint(of_step(config, number))
        found |= {
            f"step.{step.name}.{key.removeprefix('task.')}": value
            for key, value in own.items()
            if key.startswith("task.")
        }
        if step.where is not None:
            found[f"step.{step.name}.where"] = step.where
    return found | {key: value for key, value in own.items() if not key.startswith("task.")}


def last_name(fingerprint: dict[str, Any]) -> str:
    """Return the name of a run's last step by its fingerprint; empty where it has no steps."""
    return next(reversed(fingerprint.get("step", ())), "")


def last_of(fingerprint: dict[str, Any], key: str) -> Any:
    """Return what a run's fingerprint has of a key of its task, or of its last step; None where it is not there."""
    name = last_name(fingerprint)
    return fingerprint.get(f"step.{name}.{key}" if name else f"task.{key}")
