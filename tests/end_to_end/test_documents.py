"""Rows that name documents, by the real command: killed, retried, by batches; each document that has no text a row."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import rowmill
from tests.end_to_end.batching import batches
from tests.end_to_end.conftest import Arrival, Place, Server, Witness, until
from tests.tasks.documents import made

ROWS = 60
BAD = {3: "not_readable", 4: "encrypted", 5: "no_text", 6: "damaged"}  # rows without a text -> why
QUESTION = '--set=task.prompt="{kind} of row {number}: {document}"'
DOCUMENTS = ("--set=task.documents.document=file", "--set=input.documents_dir=documents", QUESTION)

Simulate = Callable[..., Witness]
Serve = Callable[..., Server]


def content(row: int) -> tuple[str, bytes]:
    """Return the name and the bytes of a row's document."""
    text = f"Text number {row}"
    match row % 4:
        case 0:
            return f"{row}.pdf", made.pdf(text, compressed=True)
        case 1:
            return f"{row}.docx", made.docx(made.paragraph(text))
        case 2:
            return f"{row}.html", f"<!DOCTYPE html><p>{text}".encode()
        case _:
            return f"{row}.txt", text.encode()


def write(place: Place) -> None:
    folder = place.folder / "documents"
    folder.mkdir()
    special = {4: made.encrypted_pdf(), 5: made.pdf(""), 6: made.pdf("x")[:300]}
    lines = []
    for row in range(ROWS):
        name, data = content(row)
        if row != 3:
            (folder / name).write_bytes(special.get(row, data))
        lines.append(json.dumps({"id": f"id-{row}", "number": f"{row:06d}", "kind": "Text", "file": name}).encode())
    place.write_lines(line + b"\n" for line in lines)


def asked_in(arrival: Arrival) -> str:
    said: str = json.loads(arrival.body)["messages"][-1]["content"]
    return said


def test_a_killed_run_of_documents_goes_on_and_those_without_a_text_fail_alone(place: Place, server: Serve) -> None:
    write(place)
    at = server()
    place.configure(at.url)
    at.hold(20)
    begun = place.start(*DOCUMENTS, '--set=output.include=["input"]')
    until(lambda: len(place.recorded()) >= 20, "rows on the disk")
    begun.kill_all()
    at.go_on()
    before = place.recorded()
    done = place.run(*DOCUMENTS, '--set=output.include=["input"]')
    assert done.code == 1, done.err
    assert [line["index"] for line in place.lines] == list(range(ROWS))
    assert {line["index"]: line["error"]["code"] for line in place.lines if line["error"]} == BAD
    assert {line["class"] for line in place.failed} == {"unreadable_document"}
    assert "the document '5.docx'" in place.lines[5]["error"]["message"]
    assert "document" not in place.lines[0]["input"], "the row as it came"
    assert {asked_in(each) for each in at.arrivals} == {
        f"Text of row {row:06d}: Text number {row}" for row in range(ROWS) if row not in BAD
    }
    twice = {row for row, times in at.counts.items() if times > 1}
    assert not twice & before, "nothing is paid twice that was on the disk"
    # What was missing is there now: retry asks for it, and for nothing else.
    (place.folder / "documents" / "3.txt").write_bytes(content(3)[1])
    asked = len(at.arrivals)
    assert place.retry(*DOCUMENTS, '--set=output.include=["input"]').code == 1
    assert [asked_in(each) for each in at.arrivals[asked:]] == ["Text of row 000003: Text number 3"]
    assert {line["index"] for line in place.failed} == set(BAD) - {3}


def test_batches_have_documents_too_and_what_was_sent_needs_them_no_more(place: Place, simulator: Simulate) -> None:
    write(place)
    place.configure(simulator().url)
    done = place.run(*DOCUMENTS, *batches(), "--set=task.document_characters=9")
    assert done.code == 1, done.err
    assert Counter(line["error"]["code"] for line in place.lines if line["error"]) == Counter(BAD.values())
    assert "Text numb [cut here: the first 9 characters]" in place.lines[0]["output"].replace("\n", " ")
    assert "some documents are longer than what is taken of them" in place.log


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--set=input.documents_dir=gone",), 6, "input.documents_dir: there is no directory "),
        (("--set=task.documents.document=flie",), 2, "no column 'flie', which task.documents names; did you mean"),
        (("--set=task.document_pages=0",), 2, "task.document_pages: must be 1 or more"),
        (('--set=task.documents={document = ""}',), 2, "task.documents: the names of documents and columns must not"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    place: Place, nobody: str, options: tuple[str, ...], code: int, said: str
) -> None:
    write(place)
    place.configure(nobody)
    done = place.run(*DOCUMENTS, *options)
    assert (done.code, len(done.lines)) == (code, 1), done.err
    assert said in done.err
    assert not place.run_dir.exists()


def test_rows_of_a_program_name_documents_below_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, simulator: Simulate
) -> None:
    (tmp_path / "a.pdf").write_bytes(made.pdf("The end"))
    monkeypatch.chdir(tmp_path)
    rows = [{"file": "a.pdf"}, {"file": "../a.pdf"}]
    fine, outside = rowmill.map(
        rows, model="m", base_url=simulator().url, prompt="{text}", documents={"text": "file"}, progress=False
    )
    assert "The end" in str(fine.output)
    assert outside.error is not None
    assert (outside.error.fault, "documents_dir" in str(outside.error)) == ("unreadable_document", True)
