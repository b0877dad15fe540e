"""Inputs that people have, by the real command: it asks what is in the file, or refuses it and asks nothing.

Which files are read and which are refused is held by `tests/files/input/test_field_files.py`.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl  # type: ignore[import-untyped]  # it ships no types

from tests.end_to_end.conftest import Place, Server
from tests.files.input.test_workbook_look import ods, row

TEXTS = [f"row {number:06d}: {text}" for number, text in enumerate(["a, b; c", 'it said "é"', "3,5 | 4", "last\nline"])]


def prompts(server: Server) -> dict[int, str]:
    """Return what each row was asked."""
    return {arrival.row: json.loads(arrival.body)["messages"][-1]["content"] for arrival in server.arrivals}


def workbook(path: Path) -> None:
    made = openpyxl.Workbook()
    made.active.append(["id", "text", "day", None])
    for number, text in enumerate(TEXTS):
        made.active.append([number, text, None, None])
    made.active.append([" "])
    made.save(path)


def test_a_table_of_excel_is_asked_field_by_field(place: Place, server: Callable[..., Server]) -> None:
    """Semicolons, `sep=`, a column of pandas without a name, commas in texts, Windows' encoding, one broken row."""
    served = server()
    place.configure(served.url)
    with (place.folder / "in.csv").open("w", encoding="cp1252", newline="") as file:
        file.write("sep=;\r\n")
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["", "id", "text", ""])
        writer.writerows([number, f"id-{number}", text, ""] for number, text in enumerate(TEXTS))
        file.write("9;few\r\n")
    refused = place.start("--set=input.path=in.csv")
    planned = place.start("--set=input.path=in.csv", "--set=input.encoding=cp1252", command="plan")
    done = refused.wait()
    assert (done.code, served.arrivals) == (2, [])
    assert (
        'in.csv: line 4: byte 79 (0xe9) is no UTF-8, nor is what else is not ASCII; set input.encoding = "cp1252"'
        in (done.err)
    )
    told = planned.wait().out
    assert "5 rows, 0.2 kB of csv with semicolons, 1 shard" in told
    assert "column 1 has no name in the header; it is called column_1" in told
    done = place.run("--set=input.path=in.csv", "--set=input.encoding=cp1252", '--set=output.include=["input"]')
    assert done.code == 1, done.err
    said = "input: read with semicolons between fields; input.delimiter settles it; in.csv: column 1 has no name in the"
    assert done.lines[1].startswith(said)
    assert place.log.count(said) == 1
    assert prompts(served) == {number: f"Summarise in one line:\n{text}" for number, text in enumerate(TEXTS)}
    assert [line["id"] for line in place.lines[:4]] == [f"id-{number}" for number in range(4)]
    assert place.lines[1]["input"] == {"column_1": "1", "id": "id-1", "text": TEXTS[1]}
    assert [line["message"] for line in place.failed] == ["line 8: 2 fields where the header has 3"]


def test_a_workbook_and_a_json_document_are_asked_row_by_row(place: Place, server: Callable[..., Server]) -> None:
    served = server()
    place.configure(served.url)
    workbook(place.folder / "in.xlsx")
    rows = [{"id": number, "text": text, "price": 1.5} for number, text in enumerate(TEXTS)]
    text = json.dumps({"version": 2, "data": rows}, indent=2).replace("1.5", "1.50")
    (place.folder / "in.json").write_text(text)
    options = {"in.xlsx": "out.jsonl", "in.json": "json.jsonl"}
    started = [
        place.start(f"--set=input.path={name}", f"--set=output.path={out}", '--set=output.include=["input"]')
        for name, out in options.items()
    ]
    for each in started:
        done = each.wait()
        assert done.code == 0, done.err
    assert len(served.arrivals) == 8
    assert prompts(served) == {number: f"Summarise in one line:\n{text}" for number, text in enumerate(TEXTS)}
    assert [line["id"] for line in place.lines] == [0, 1, 2, 3]
    assert place.lines[3]["input"] == {"id": 3, "text": TEXTS[3], "day": ""}
    assert b'"price": 1.50' in (place.folder / "json.jsonl").read_bytes()


def test_turns_and_members_of_training_data_are_what_an_api_takes(place: Place, server: Callable[..., Server]) -> None:
    served = server()
    place.configure(served.url)
    turns: list[Any] = [
        [{"from": "system", "value": "s"}, {"from": "human", "value": "row 000000"}, {"from": "gpt", "value": "old"}],
        json.dumps(
            [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}, {"role": "user", "value": "row 000001"}]
        ),
        [{"from": "gpt", "value": "row 000002"}],
    ]
    place.write_lines(
        json.dumps({"id": str(n), "conversations": each}).encode() + b"\n" for n, each in enumerate(turns)
    )
    config = place.folder / "config.toml"
    task = 'messages = "conversations"\n[task.params]\ntop_k = 1\nextra_body = { top_k = 5, kwargs = { a = true } }'
    config.write_text(config.read_text().replace('prompt = "Summarise in one line:\\n{text}"', task))
    started = [
        place.start(f"--set=client.transport={transport}", f"--set=output.path={out}", "--set=workers.count=1")
        for transport, out in (("direct", "out.jsonl"), ("sdk", "sdk.jsonl"))
    ]
    for each in started:
        done = each.wait()
        assert done.code == 1, done.err
    assert sorted(arrival.row for arrival in served.arrivals) == [0, 0, 1, 1]
    for arrival in served.arrivals:
        sent = json.loads(arrival.body)
        assert (sent["top_k"], sent["kwargs"]) == (5, {"a": True})
        assert "extra_body" not in sent
        if arrival.row:
            assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
        else:
            assert sent["messages"] == [{"role": "system", "content": "s"}, {"role": "user", "content": "row 000000"}]
    assert "nothing is asked" in place.failed[0]["message"]


def test_what_cannot_be_right_is_refused_before_anything_is_asked(place: Place, server: Callable[..., Server]) -> None:
    served = server()
    place.configure(served.url)
    place.write_rows(1)
    for name, text in (
        ("page.jsonl", "<html>row 000000"),
        ("pointer.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"),
        ("cut.json", '[{"id": 1, "text": "row 000000"}\n{"id": 2}]'),
    ):
        (place.folder / name).write_text(text)
    ods(place.folder / "far.ods", row("text"), row("row 000000"), row("", times=10**6), row(("", 16000), "far"))
    cases = {
        "output.path=out.xlsx": "output.path: out.xlsx ends with .xlsx, which is no format that is written; end it",
        "input.path=page.jsonl": "page.jsonl: is HTML or XML",
        "input.path=pointer.csv": "pointer.csv: is a pointer of Git LFS, and the data is not here; run `git lfs pull`",
        "input.path=far.ods": "far.ods: a sheet of it is too large to be read: Cell limit exceeded",
        "input.path=cut.json": "cut.json: line 2: no JSON as it goes on: a comma is missing between two elements",
        "task.params.extra_headers.X=1": "task.params.extra_headers: is no member of the request; set it by provider",
    }
    started = {words: place.start(f"--set={change}") for change, words in cases.items()}
    for words, each in started.items():
        done = each.wait()
        assert done.code == 2
        assert words in done.err
        assert len(done.lines) == 1
    assert served.arrivals == []
    assert not place.run_dir.exists()
