"""What `[task]` can still get wrong: what an API does not take, and what cannot be asked for together."""

import json
from collections.abc import Iterator, Sequence

from rowmill.core import finish_reasons
from rowmill.core.config.sections import Config, InputConfig, ModelSchema, TaskConfig
from rowmill.core.wire import CONTENT, CONVERSATIONS, TEXTS

_MOST_INPUTS = 2048  # that the embeddings API takes in one request
_MOST_PACKED = 1000
_CAPS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_new_tokens")
_CHOICES = frozenset({"chat.completions", "completions"})  # whose replies may have several
_UNITED = frozenset({"chat.completions", "embeddings", "moderations"})  # rows can share a request of these
_QUESTION = ("prompt", "system", "template", "messages", "images", "documents", "per_row", "params", "schema")
_NOTHING = TaskConfig()
NO_QUESTION = 'task.prompt: is missing; set it, or task.messages, or input.format = "batch" for a batch file'
_VECTORS = ("base64", "float")  # formats that a vector can be read from


def problems(config: Config) -> Iterator[str]:
    """Yield what is wrong, each as a line that begins with the key."""
    task = config.task
    yield from end_problems("task.fail_on_finish", task.fail_on_finish, [task])
    if task.model is not None and not task.model.strip():
        yield "task.model: must not be empty"
    if config.input.format == "batch":
        yield from batch_problems(task, config.input)
        return
    if config.input.format == "auto" and asks_nothing(task):
        return  # right for a batch file; whether it is one is found out when the input is opened
    if (
        task.model is None
        and "model" not in task.per_row
        and any(provider.model is None for provider in config.provider)
    ):
        yield (
            "task.model: is missing; set it, or provider.model of every provider, or the column of it in task.per_row"
        )
    yield from _question_problems(task)
    yield from _params_problems(task)
    yield from _per_row_problems(task)
    yield from _schema_problems(config)
    yield from _packing_problems(config)
    if task.api not in TEXTS:
        for part in config.output.parts:
            yield f'output.include: "{part}" is of replies that are texts, and those of {task.api} are none; remove it'


def asks_nothing(task: TaskConfig) -> bool:
    """Tell whether there is nothing that rows could be asked, as in a run of a batch file."""
    return not any(getattr(task, key) != getattr(_NOTHING, key) for key in _QUESTION)


def batch_problems(task: TaskConfig, input: InputConfig) -> Iterator[str]:  # noqa: A002 - the section's name
    """Yield what a run of a batch file cannot have, each as a line that begins with the key."""
    instead = 'the lines of a batch file are whole requests; remove it, or set input.format = "jsonl"'
    for key in _QUESTION:
        if getattr(task, key) != getattr(_NOTHING, key):
            yield f"task.{key}: {instead}"
    if task.rows_per_request not in ("auto", 1):
        yield f"task.rows_per_request: {instead}"
    if input.id is not None:
        yield 'input.id: the lines of a batch file have their custom_id; remove it, or set input.format = "jsonl"'


def _question_problems(task: TaskConfig) -> Iterator[str]:
    if task.prompt is not None and not task.prompt.strip():
        yield "task.prompt: must not be empty"
    if task.messages is not None and not task.messages:
        yield "task.messages: must not be empty"
    if task.prompt is None and task.messages is None:
        yield NO_QUESTION
    if task.prompt is not None and task.messages is not None:
        yield "task.messages: stands in the place of task.prompt; remove one of them"
    if "" in task.images:
        yield "task.images: the name of a column must not be empty"
    for name, column in task.documents.items():
        if not name or not column:
            yield "task.documents: the names of documents and columns must not be empty"
    for key in ("document_pages", "document_characters"):
        if getattr(task, key) < 1:
            yield f"task.{key}: must be 1 or more"
    if task.api not in CONVERSATIONS:
        for key in ("messages", "images", "system"):
            if getattr(task, key):
                yield f"task.{key}: {task.api} takes a text and nothing else; write it into task.prompt, or remove it"


def _params_problems(task: TaskConfig) -> Iterator[str]:
    content = CONTENT[task.api]
    sources = {"model": "task.model", "messages": "task.prompt", content: "task.prompt"}
    if task.system is not None and task.api == "responses":
        sources["instructions"] = "task.system"
    for key, source in sources.items():
        if key in task.params:
            yield f"task.params.{key}: is made from {source}; remove it here"
    if "extra_body" in task.params:  # a table's members were put in its place when the configuration was read
        yield "task.params.extra_body: must be a table of members of the request"
    for key, instead in (("extra_headers", "provider.headers"), ("extra_query", "provider.base_url behind a ?")):
        if key in task.params:
            yield f"task.params.{key}: is no member of the request; set it by {instead}, and remove it here"
    if task.params.get("stream"):
        yield "task.params.stream: is set by provider.stream, for servers that only stream; remove it here"
    if task.params.get("background"):
        yield "task.params.background: a bulk run waits for the reply itself; remove it"
    if (n := task.params.get("n", 1)) != 1:
        if task.api not in _CHOICES:
            yield f"task.params.n: {task.api} gives one reply for each request; remove it"
        elif type(n) is not int or n < 1:
            yield "task.params.n: must be a whole number of replies for each row, 1 or more"
    if task.api == "embeddings" and task.params.get("encoding_format", "base64") not in _VECTORS:
        yield 'task.params.encoding_format: must be "base64" or "float"; the output is float32 either way'
    try:
        json.dumps(task.params, allow_nan=False)  # msgspec would write nan as null without a word
    except (TypeError, ValueError) as error:
        yield f"task.params: cannot be written as JSON: {error}"


def _per_row_problems(task: TaskConfig) -> Iterator[str]:
    taken = {CONTENT[task.api], "messages", "stream", "n", "background", "encoding_format"}
    if task.system is not None:
        taken.add("instructions")
    if task.schema is not None:
        taken |= {"response_format", "text"}
    for member, column in task.per_row.items():
        if member in taken:
            yield f"task.per_row.{member}: cannot differ from row to row; remove it"
        if not member or not column:
            yield "task.per_row: the names of members and columns must not be empty"


def _schema_problems(config: Config) -> Iterator[str]:
    task = config.task
    if task.schema is None:
        return
    if not task.schema:
        yield "task.schema: must not be empty"
    if isinstance(task.schema, ModelSchema):  # it holds code: only a program makes one
        yield 'task.schema: must be the path of a schema, a table, or a pydantic model as "package.module:Model"'
    if task.api not in CONVERSATIONS:
        yield f'task.schema: needs task.api "chat.completions" or "responses", not "{task.api}"'
    if config.output.format == "batch":
        yield 'task.schema: replies are kept whole with output.format "batch"; choose another format, or remove it'


def end_problems(key: str, reasons: Sequence[str], tasks: Sequence[TaskConfig]) -> Iterator[str]:
    """Yield what is wrong with finish reasons that a key names for the replies to these tasks."""
    if reasons and all(task.api not in TEXTS for task in tasks):
        yield f"{key}: replies of {tasks[0].api} do not say why they end; remove it"
    if reasons and any(task.packs for task in tasks):
        yield f"{key}: rows that share a request have no ends of their own, and are asked apart where they are cut"
    for reason in reasons:
        word = finish_reasons.common(reason)
        if not word:
            yield f'{key}: {reason!r} is no finish reason; write it as "length" or "content_filter"'
        elif word != reason:
            yield f'{key}: {reason!r} is called "{word}" here, whatever the server calls it; write that'
        elif reason in finish_reasons.WHOLE:
            yield f'{key}: "{reason}" is how replies end that are whole; remove it'
        elif (meant := finish_reasons.near(reason)) is not None:
            yield f'{key}: no reply ends with "{reason}"; did you mean "{meant}"?'


def asks_unlimited(task: TaskConfig) -> bool:
    """Whether it is known that no request says how many tokens its reply may have."""
    return not asks_nothing(task) and not any(cap in task.params or cap in task.per_row for cap in _CAPS)


def _packing_problems(config: Config) -> Iterator[str]:
    task = config.task
    rows = task.rows_per_request
    if isinstance(rows, str) or rows == 1:
        return
    key = "task.rows_per_request"
    if task.api not in _UNITED:
        yield f"{key}: rows cannot share a request of {task.api}; remove it"
        return
    most = _MOST_PACKED if task.api == "chat.completions" else _MOST_INPUTS
    if not 1 <= rows <= most:
        yield f'{key}: must be 1 to {most}, or "auto"'
    if task.params.get("n", 1) != 1:
        yield f"{key}: task.params.n cannot be kept for rows that share a request; remove one of them"
    for part in config.output.parts:
        yield f'{key}: output.include "{part}" is of whole replies, not of rows that share one; remove one of them'
    for name in ("messages", "images", "per_row"):
        if getattr(task, name):
            yield f"{key}: rows with task.{name} cannot share a request; remove one of them"
    if config.output.format == "batch":
        yield f'{key}: replies are kept whole with output.format "batch"; choose another format, or remove it'
