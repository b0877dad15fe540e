"""Rows that name documents, as a task builds them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rowmill.core.config.sections import InputConfig, TaskConfig
from rowmill.core.errors import ConfigError, InputError, InvalidRow, MachineError, UnreadableDocument
from rowmill.tasks import Task
from rowmill.tasks.documents.task import RowWithDocuments
from rowmill.tasks.factory import open_task
from tests.tasks.documents import made

TASK = TaskConfig(model="m", prompt="{name}: {document}", documents={"document": "file"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.pdf").write_bytes(made.pdf('A "quoted" text'))
    (tmp_path / "b.txt").write_text("B")
    return tmp_path


def task_of(folder: Path, config: TaskConfig = TASK, **changes: Any) -> Task:
    return open_task(
        msgspec.structs.replace(config, **changes), InputConfig(path=str(folder / "rows.jsonl"), id="name")
    )


def asked(task: Task, row: Any, *, ahead: bool = False) -> Any:
    line = json.dumps(row).encode() + b"\n"
    if ahead:
        assert task.documents is not None
        line = asyncio.run(task.documents.attached(line))
    return msgspec.json.decode(task.build(line).body)["messages"][-1]["content"]


@pytest.mark.parametrize("ahead", [True, False])
def test_the_text_stands_where_the_prompt_names_the_document(folder: Path, *, ahead: bool) -> None:
    task = task_of(folder)
    assert task.columns == ["file", "name"]
    assert asked(task, {"name": "x", "file": "a.pdf"}, ahead=ahead) == 'x: A "quoted" text'
    assert asked(task, {"file": ["b.txt", "a.pdf"], "name": 1.50}, ahead=ahead) == '1.5: B\n\nA "quoted" text'
    nothings: list[Any] = [None, "", []]
    for nothing in nothings:
        assert asked(task, {"file": nothing, "name": "none"}, ahead=ahead) == "none: "
    jinja = task_of(folder, template="jinja", prompt="{{ document | upper }} {{ file }}")
    assert asked(jinja, {"file": "b.txt", "name": ""}, ahead=ahead) == "B b.txt"


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize(
    ("row", "said", "code"),
    [
        (
            {"file": "gone", "name": "x"},
            "the document 'gone' cannot be read: No such file or directory",
            "not_readable",
        ),
        ({"file": 7, "name": "x"}, "task.documents: column 'file' holds no path of a document, but 7", None),
        (
            {"file": "http://x.test/a.pdf", "name": "x"},
            "task.documents: column 'file' holds a URL, 'http://x.test/a.pdf': documents are files of this machine",
            None,
        ),
        ({"name": "x"}, "the row has no column 'file'", None),
        ({"file": "b.txt"}, "the row has no column 'name'", None),
        ([1], "the line is no JSON object: Expected `object`, got `array`", None),
    ],
)
def test_a_row_without_its_document_fails_with_the_reason(
    folder: Path, row: Any, said: str, code: str | None, *, ahead: bool
) -> None:
    with pytest.raises(InvalidRow) as failed:
        asked(task_of(folder), row, ahead=ahead)
    assert (str(failed.value), getattr(failed.value, "code", None)) == (said, code)
    assert isinstance(failed.value, UnreadableDocument) == (code is not None)


def test_what_an_output_has_of_a_row_is_the_row_as_it_came(folder: Path) -> None:
    task = task_of(folder)
    assert task.documents is not None
    for file in ("a.pdf", "gone"):
        line = b'{"name": "x", "file": "%b"}\n' % file.encode()
        whole = asyncio.run(task.documents.attached(line))
        assert isinstance(whole, RowWithDocuments)
        assert task.input_of(whole) == line.strip() == task.input_of(line)
        assert task.id_of(whole) == b'"x"' == task.id_of(line)
    unread = task.documents.unread(b'{"name": "x", "file": "gone"}')
    assert (task.build(unread).id, task.input_of(unread)) == (b'"x"', b'{"name": "x", "file": "gone"}')


def test_that_documents_are_cut_is_said_once(folder: Path) -> None:
    task = task_of(folder, document_characters=3)
    assert task.documents is not None
    assert asked(task, {"name": "x", "file": "b.txt"}) == "x: B"
    assert task.documents.note() is None
    assert asked(task, {"name": "x", "file": "a.pdf"}) == 'x: A "\n\n[cut here: the first 3 characters]'
    assert task.documents.note() == (
        "some documents are longer than what is taken of them (task.document_pages = 100, task.document_characters = "
        "3); the last line of their text says so"
    )
    assert task.documents.note() is None


def test_rows_that_do_not_fit_are_refused_before_any_is_asked(folder: Path) -> None:
    task = task_of(folder)
    task.check([b'{"name": "x", "file": "gone"}'], "rows.jsonl")
    with pytest.raises(InputError, match=r"no column 'file', which task.documents names; did you mean .flie."):
        task.check([b'{"name": "x", "flie": "a.pdf"}'], "rows.jsonl")
    with pytest.raises(InputError, match=r"no column 'name', which task.prompt names"):
        task.check([b'{"file": "a.pdf"}'], "rows.jsonl")
    with pytest.raises(InputError, match=r"task.documents.document: the rows have a column of that name; choose"):
        task.check([b'{"name": "x", "file": "a.pdf", "document": 1}'], "rows.jsonl")
    with pytest.raises(MachineError, match="there is no directory"):
        task_of(folder / "gone").check([], "rows.jsonl")
    with pytest.raises(
        ConfigError, match=r"task.documents.document: nothing asks about it; write {document} into task"
    ):
        task_of(folder, prompt="{name}")
    assert task_of(folder, template="jinja", prompt="{{ row }}").columns is None, "it may be in there"
    with pytest.raises(ConfigError, match=r"and the input is not: set input.documents_dir"):
        open_task(TASK, InputConfig(path="s3://bucket/rows.jsonl"))


def test_packs_and_schemas_take_documents_too(folder: Path) -> None:
    packed = task_of(folder, rows_per_request=2)
    lines = [b'{"name": "%d", "file": "b.txt"}' % number for number in range(2)]
    body = msgspec.json.decode(packed.pack([packed.build(line) for line in lines]).body)
    assert "0: B" in body["messages"][-1]["content"]
    assert packed.rows_per_request == 2
    structured = task_of(folder, schema={"type": "object", "properties": {"n": {"type": "integer"}}})
    assert asked(structured, {"name": "x", "file": "b.txt"}) == "x: B"
