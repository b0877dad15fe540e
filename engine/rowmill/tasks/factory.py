"""A configuration -> the task that it asks for. Only the modules of that task are imported."""

from collections.abc import Sequence
from typing import Literal, Unpack

from rowmill.core.config import TaskConfig, task_checks
from rowmill.core.config.sections import InputConfig, ModelSchema, ReplyPart
from rowmill.core.errors import ConfigError
from rowmill.tasks import Task
from rowmill.tasks.api import Api
from rowmill.tasks.api_task import Asking

EMBEDDINGS_A_REQUEST = 64  # where rows_per_request is "auto": hardly slower a request than one, and far below any limit


def open_task(
    config: TaskConfig,
    input: InputConfig,  # noqa: A002 - the section's name
    *,
    input_format: str | None = None,
    whole_reply: bool = False,
    parts: Sequence[ReplyPart] = (),
) -> Task:
    """Compile the task.

    input_format: that of the input as it was found out, where `input` does not say it; with "batch" the
    configuration's API must be the lines' (`batch_file.api_of`). whole_reply: an answer's `output` is the whole body
    of the reply, a JSON object. parts: what is kept of a reply beside its text (see `kept_parts`). Raises `ConfigError`
    for a template or a schema that is none, and for what the format cannot have.
    """
    api = _api(config.api)
    if (input_format or input.format) == "batch":
        from rowmill.tasks.batch_file import BatchTask

        if (problem := next(task_checks.batch_problems(config, input), None)) is not None:
            raise ConfigError(problem)
        return BatchTask(api, config, whole_reply=whole_reply, parts=parts)
    if config.prompt is None and config.messages is None:
        raise ConfigError(task_checks.NO_QUESTION)
    task = _asking(api, config, input, whole_reply=whole_reply, parts=parts)
    return _with_documents(task, config, input) if config.documents else task


def _asking(
    api: Api,
    config: TaskConfig,
    rows_of: InputConfig,
    *,
    whole_reply: bool,
    parts: Sequence[ReplyPart],
) -> Task:
    """Return the task of rows that are no batch file's, without their documents."""
    rows = rows_per_request(config, whole_reply=whole_reply)
    if whole_reply and (rows > 1 or config.schema is not None):
        key = "rows_per_request" if rows > 1 else "schema"
        raise ConfigError(
            f'task.{key}: replies are kept whole with output.format "batch"; choose another, or remove it'
        )
    inner = config  # of the task that another is made around
    if config.schema is not None:
        from rowmill.tasks.schema import resolved
        from rowmill.tasks.structured import StructuredTask, with_format

        if isinstance(config.schema, str):  # a run has read its file before it opens tasks
            config = resolved(config)
        inner = with_format(config)
    if rows > 1 and config.api == "chat.completions":
        from rowmill.tasks.packing import PackedTask

        return PackedTask(_opened(api, inner, rows_of), config)
    if isinstance(config.schema, dict | ModelSchema):
        member: Literal["messages", "input"] = "messages" if config.api == "chat.completions" else "input"
        return StructuredTask(
            _opened(api, inner, rows_of, parts=parts), config.schema, member, strict=config.strict_json
        )
    return _opened(api, config, rows_of, whole_reply=whole_reply, parts=parts, rows_per_request=rows)


def _with_documents(task: Task, config: TaskConfig, rows: InputConfig) -> Task:
    from rowmill.tasks.documents.extraction import Bounds
    from rowmill.tasks.documents.reader import DocumentReader
    from rowmill.tasks.documents.task import DocumentTask

    if rows.documents_root is None:
        raise ConfigError("task.documents: files of this machine, and the input is not: set input.documents_dir")
    reader = DocumentReader(rows.documents_root, Bounds(config.document_pages, config.document_characters))
    return DocumentTask(task, config.documents, reader)


def rows_per_request(config: TaskConfig, *, whole_reply: bool = False) -> int:
    """Return how many rows may go out together; "auto" is 1 wherever packs cannot be, or were not asked for."""
    if config.rows_per_request != "auto":
        return config.rows_per_request
    return EMBEDDINGS_A_REQUEST if config.api == "embeddings" and not config.per_row and not whole_reply else 1


def _opened(api: Api, config: TaskConfig, rows: InputConfig, **asking: Unpack[Asking]) -> Task:
    from rowmill.tasks.plain import PlainTask, is_plain

    if is_plain(config):
        return PlainTask(api, config, rows.id, **asking)
    from rowmill.tasks.composed import ComposedTask

    return ComposedTask(api, config, rows.id, images_root=rows.images_root, **asking)


def _api(name: str) -> Api:
    match name:
        case "responses":
            from rowmill.tasks.responses import Responses

            return Responses()
        case "completions":
            from rowmill.tasks.completions import Completions

            return Completions()
        case "embeddings":
            from rowmill.tasks.embeddings import Embeddings

            return Embeddings()
        case "moderations":
            from rowmill.tasks.moderations import Moderations

            return Moderations()
        case _:
            from rowmill.tasks.chat import Chat

            return Chat()
