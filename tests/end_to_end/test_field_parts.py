"""What a reply holds beside its text: what `output.include` asks for is in every format, from every API and cache."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types
import pytest

from tests.end_to_end.conftest import Arrival, Place, Server, Started, until

ALL = 'output.include=["meta","reasoning","tool_calls","logprobs","choices","message"]'
PARTS = ("reasoning", "tool_calls", "logprobs", "choices", "message")
CALLS = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]
LOGPROBS = {"content": [{"token": "a", "logprob": -0.5}]}
CITED = [{"type": "url_citation", "url_citation": {"url": "https://a.test", "title": 'a, "b"'}}]
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def choice(message: Any, finish_reason: str = "stop", index: int = 0, **more: Any) -> dict[str, Any]:
    return {"index": index, "message": message, "finish_reason": finish_reason, **more}


def completion(*choices: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps({"model": "m", "choices": choices, "usage": USAGE}).encode()


def one_worker(place: Place, url: str) -> None:
    """Configure a run that starts quickly."""
    place.configure(url)
    path = place.folder / "config.toml"
    path.write_text(path.read_text().replace("count = 2", "count = 1"))


def asked_at(served: Server, reply: Callable[[int, dict[str, Any]], Any]) -> list[str]:
    """Have a server answer at any path, rows told by their number in the body; returns the paths that were asked."""
    paths: list[str] = []

    class Handler(served.RequestHandlerClass):  # type: ignore[name-defined,misc]  # the class of whoever made it
        def do_POST(self) -> None:  # noqa: N802 - the name of what it overrides
            body = self.rfile.read(int(self.headers["content-length"]))
            found = re.search(rb"row (\d{6})", body)
            assert found is not None
            paths.append(self.path)
            answer = json.dumps(reply(int(found[1]), json.loads(body))).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    served.RequestHandlerClass = Handler
    return paths


def test_parts_stand_in_the_lines_and_in_the_columns_of_every_format(
    place: Place, server: Callable[..., Server]
) -> None:
    choices = [
        [choice({"content": "a", "reasoning_content": "h\n\u00e9, m"}, logprobs=LOGPROBS)],
        [choice({"content": "a", "tool_calls": CALLS, "annotations": CITED, "reasoning": None}, "tool_calls")],
        [choice({"content": "<think>hm</think>a"}), choice({"content": "b"}, index=1)],
        [choice({"content": "plain"})],
        [choice({"content": None, "refusal": "no", "reasoning": "hm"})],
        [choice({"content": None, "reasoning_content": "only this"})],
    ]
    reasoning = ["h\n\u00e9, m", None, "hm", None, "hm", "only this"]
    served = server(lambda arrival: completion(*choices[arrival.row]))
    one_worker(place, served.url)
    place.write_rows(len(choices))
    done = place.run("--set", ALL)
    assert done.code == 1, done.err
    lines = place.lines
    expected = [
        {
            "reasoning": reasoning[row],
            "tool_calls": CALLS if row == 1 else None,
            "logprobs": LOGPROBS if row == 0 else None,
            "choices": each,
            "message": each[0]["message"],
        }
        for row, each in enumerate(choices)
    ]
    assert [{part: line[part] for part in PARTS} for line in lines] == expected
    assert list(lines[0])[-6:] == ["meta", *PARTS]
    assert [line["output"] for line in lines[:4]] == [
        "a", {"content": "a", "tool_calls": CALLS}, ["<think>hm</think>a", "b"], "plain",
    ]  # fmt: skip
    assert [line["error"]["class"] for line in lines[4:]] == ["content_filter", "empty_reply"]
    asked = len(served.arrivals)
    started = []
    for name in ("out.csv", "out.parquet"):
        shutil.copytree(place.run_dir, place.folder / f"{name}.run")
        where = [f"--set=output.path={name}", f"--set=output.errors={name}.errors.jsonl"]
        started.append(place.start("--set", ALL, *where))
    assert [each.wait().code for each in started] == [1, 1]
    assert len(served.arrivals) == asked, "another format is made of the same lines"
    with (place.folder / "out.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    table = pq.read_table(place.folder / "out.parquet").to_pylist()
    for rows, nothing in ((records, ""), (table, None)):
        assert list(rows[0])[-9:] == ["provider", "attempts", "requests", "ms", *PARTS]
        assert [row["reasoning"] for row in rows] == [each or nothing for each in reasoning]
        for row, line in zip(rows, expected, strict=True):
            for part in PARTS[1:]:
                assert (json.loads(row[part]) if row[part] else None) == line[part]
                assert row[part] or row[part] == nothing


def test_a_field_of_a_schema_may_be_called_as_a_part(place: Place, server: Callable[..., Server]) -> None:
    fields = {"type": "object", "properties": {"reasoning": {"type": "string"}, "n": {"type": "integer"}}}
    (place.folder / "schema.json").write_text(json.dumps(fields))
    message = {"content": '<think>hm</think>\n```json\n{"reasoning":"r","n":1}\n```'}
    one_worker(place, server(lambda _: completion(choice(message))).url)
    place.write_rows(2)
    sets = ('task.schema="schema.json"', 'output.include=["reasoning"]', "output.path=out.csv")
    done = place.run(*(word for each in sets for word in ("--set", each)))
    assert done.code == 0, done.err
    with (place.folder / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["reasoning"], row["output.reasoning"], row["n"]) for row in rows] == [("hm", "r", "1")] * 2


def test_strict_json_takes_nothing_but_json(place: Place, server: Callable[..., Server]) -> None:
    (place.folder / "schema.json").write_text('{"type":"object","required":["n"]}')
    contents = ['{"n":1}', '```json\n{"n":1}\n```', '<think>hm</think>{"n":1}']

    def reply(row: int, _body: dict[str, Any]) -> dict[str, Any]:
        return {"choices": [choice({"content": contents[row]})], "usage": USAGE}

    served = server()
    paths = asked_at(served, reply)
    one_worker(place, served.url)
    place.write_rows(len(contents))
    strict = ("--set", 'task.schema="schema.json"', "--set", "task.strict_json=true", "--set", "retry.invalid_output=2")
    done = place.run(*strict)
    assert done.code == 1, done.err
    assert [line["output"] for line in place.lines] == [{"n": 1}, None, None]
    assert [row["class"] for row in place.failed] == ["invalid_output"] * 2
    assert [row["reply"] for row in place.failed] == contents[1:]
    assert len(paths) == 1 + 2 + 2


def test_all_choices_are_the_output(place: Place, server: Callable[..., Server]) -> None:
    def decide(arrival: Arrival) -> Any:
        assert json.loads(arrival.body)["n"] == 2
        if arrival.row == 0:
            return completion(choice({"content": "only one"}))
        if arrival.row == 1:
            return completion(choice({"content": "a"}), choice(None, "content_filter", 1))
        return completion(*(choice({"content": f"{arrival.row} {n}"}, index=n) for n in range(2)))

    served = server(decide)
    one_worker(place, served.url)
    place.write_rows(4)
    done = place.run("--set", "task.params.n=2")
    assert done.code == 0, done.err
    assert [line["output"] for line in place.lines] == [["only one"], ["a", ""], ["2 0", "2 1"], ["3 0", "3 1"]]
    assert set(served.counts.values()) == {1}


@pytest.mark.parametrize("api", ["responses", "completions"])
def test_other_apis_have_their_parts(place: Place, server: Callable[..., Server], api: str) -> None:
    thoughts = {"id": "rs", "type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    text = {"type": "output_text", "text": "a", "annotations": CITED, "logprobs": [{"token": "a"}]}
    refusal = {"type": "refusal", "refusal": "no"}
    call = {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"}
    items: list[list[dict[str, Any]]] = [
        [thoughts, {"type": "message", "content": [text]}],
        [thoughts, call],
        [{"type": "message", "content": [text, refusal]}],
    ]
    texts = [
        {"index": n, "text": each, "logprobs": {"tokens": [each]}, "finish_reason": "stop"}
        for n, each in enumerate("ab")
    ]

    def reply(row: int, _body: dict[str, Any]) -> dict[str, Any]:
        if api == "responses":
            return {"status": "completed", "model": "m", "output": items[row], "usage": {"input_tokens": 3}}
        return {"model": "m", "choices": texts[: row + 1], "usage": USAGE}

    served = server()
    paths = asked_at(served, reply)
    one_worker(place, served.url)
    place.write_rows(3 if api == "responses" else 2)
    done = place.run("--set", f"task.api={api}", "--set", ALL)
    assert done.code == 0, done.err
    assert set(paths) == {f"/v1/{api}"}
    lines = place.lines
    found = [{part: line[part] for part in PARTS} for line in lines]
    if api == "responses":
        assert [line["output"] for line in lines] == ["a", [call], {"content": "a", "refusal": "no"}]
        assert [each["reasoning"] for each in found] == ["hm", "hm", None]
        assert [each["tool_calls"] for each in found] == [None, [call], None]
        assert [each["logprobs"] for each in found] == [[{"token": "a"}], None, [{"token": "a"}]]
        assert [each["message"] for each in found] == items
        assert [each["choices"] for each in found] == [None] * 3
    else:
        assert [line["output"] for line in lines] == ["a", ["a", "b"]]
        assert [each["choices"] for each in found] == [texts[:1], texts]
        assert [each["logprobs"] for each in found] == [{"tokens": ["a"]}] * 2
        assert [each["message"] for each in found] == [texts[0]] * 2


def test_rows_that_ask_the_same_and_runs_that_find_a_reply_have_its_parts(
    place: Place, server: Callable[..., Server]
) -> None:
    served = server(lambda _: completion(choice({"content": "a", "reasoning": "hm"})))
    one_worker(place, served.url)
    place.write_lines(json.dumps({"id": n, "text": "row 000000"}).encode() + b"\n" for n in range(300))
    cache = ("--set", 'cache.use="disk"', "--set", f'cache.dir="{place.folder / "cache"}"')
    include = ("--set", 'output.include=["reasoning"]')
    for name in ("b.jsonl", "c.jsonl"):
        done = place.run(*cache, *include, "--set", f"output.path={name}")
        assert (done.code, len(served.arrivals)) == (0, 1), done.err
    for name in ("b.jsonl", "c.jsonl"):
        lines = [json.loads(line) for line in (place.folder / name).read_bytes().splitlines()]
        assert [line["reasoning"] for line in lines] == ["hm"] * 300


def test_parts_and_kept_columns_of_a_run_that_was_killed_are_those_of_one_that_was_not(
    place: Place, server: Callable[..., Server]
) -> None:
    rows = 200

    def decide(arrival: Arrival) -> Any:
        row = arrival.row
        if row % 7 == 0:
            return completion(choice({"content": None, "tool_calls": CALLS, "reasoning": f"hm {row}"}))
        return completion(choice({"content": f"<think>t{row}</think>a", "logprobs": None}, logprobs=LOGPROBS))

    table = pa.table(
        {
            "id": [str(row) for row in range(rows)],
            "text": [f"row {row:06d}" for row in range(rows)],
            "price": pa.array([Decimal(row) / 100 for row in range(rows)], pa.decimal128(9, 2)),
            "when": pa.array(range(rows), pa.timestamp("ns", "UTC")),
            "list": pa.array([[row / 10, None] for row in range(rows)], pa.list_(pa.float32())),
        }
    )
    pq.write_table(table, place.folder / "in.parquet", row_group_size=20)
    served, other = server(decide), server(decide)
    served.hold(rows // 2)
    one_worker(place, served.url)
    include = '["input","reasoning","tool_calls","logprobs","choices","message"]'

    def start(name: str, ending: str, url: str) -> Started:
        where = [
            f"--set=output.path={name}{ending}",
            f"--set=checkpoint.dir={name}.run",
            f"--set=provider.base_url={url}",
        ]
        return place.start("--set=input.path=in.parquet", f"--set=output.include={include}", *where)

    killed, whole = start("killed", ".parquet", served.url), start("whole", ".parquet", other.url)
    until(lambda: len(served.arrivals) > rows // 2, "half of the rows")
    place.run_dir = place.folder / "killed.run"
    until(place.recorded, "rows on the disk")
    killed.kill_all()
    served.go_on()
    before = len(served.arrivals)
    assert not (place.folder / "killed.parquet").exists()
    for ending in (".parquet", ".jsonl"):
        resumed = start("killed", ending, served.url)
        for each in (resumed, whole):
            done = each.wait()
            assert done.code == 0, done.err
        whole = start("whole", ".jsonl", other.url) if ending == ".parquet" else whole
    assert len(served.arrivals) - before < rows, "what was on the disk is not asked for again"
    assert len(other.arrivals) == rows
    for ending in (".parquet", ".jsonl"):
        assert (place.folder / f"killed{ending}").read_bytes() == (place.folder / f"whole{ending}").read_bytes()
    found = pq.read_table(place.folder / "killed.parquet")
    assert found.select(table.column_names).equals(table)
    assert found.column("reasoning").to_pylist()[:2] == ["hm 0", "t1"]


def test_replies_of_another_shape_are_read_for_what_they_are(place: Place, server: Callable[..., Server]) -> None:
    """As a stream has it, as of another API, or read by the server already: nothing is paid for twice."""
    choices: list[tuple[dict[str, Any], Any]] = [
        ({"index": 0, "delta": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}, "a"),
        ({"delta": {"content": None, "tool_calls": CALLS}, "finish_reason": "tool_calls"}, CALLS),
        ({"text": "a", "finish_reason": "stop"}, "a"),
        (choice({"content": "a"}), "a"),
        (choice({"content": 5}), 5),
        (choice({"content": True}), True),
        (choice({"content": {"a": 1, "b": [2]}}), {"a": 1, "b": [2]}),
    ]
    served = server()
    asked = asked_at(served, lambda row, _: {"model": "m", "choices": [choices[row][0]], "usage": USAGE})
    one_worker(place, served.url)
    place.write_rows(len(choices))
    apis = {"a.jsonl": "chat.completions", "b.csv": "completions", "c.jsonl": "responses"}
    started = [
        place.start(f"--set=task.api={api}", f"--set=output.path={name}", '--set=output.include=["message"]')
        for name, api in apis.items()
    ]
    for each in started:
        done = each.wait()
        assert done.code == 0, done.err
    assert len(asked) == 3 * len(choices)
    expected = [output for _, output in choices]
    for name in ("a.jsonl", "c.jsonl"):
        lines = [json.loads(line) for line in (place.folder / name).read_bytes().splitlines()]
        assert [line["output"] for line in lines] == expected
        assert [line["message"] for line in lines[:4]] == [
            {"role": "assistant", "content": "a"},
            {"content": None, "tool_calls": CALLS},
            choices[2][0],
            {"content": "a"},
        ]
    with (place.folder / "b.csv").open(newline="") as file:
        texts = [row["output"] for row in csv.DictReader(file)]
    assert texts == [each if isinstance(each, str) else json.dumps(each) for each in expected]


def test_whole_replies_in_odd_clothes_are_read_and_not_paid_for_again(
    place: Place, server: Callable[..., Server]
) -> None:
    whole = json.dumps({"model": "m", "choices": [choice({"content": "a", "reasoning": "hm"})], "usage": None}).encode()
    pieces: list[dict[str, Any]] = [{"role": "assistant", "reasoning": "h"}, {"reasoning": "m"}, {"content": "a"}]
    made: list[dict[str, Any]] = [{"index": 0, "delta": piece, "finish_reason": None} for piece in pieces]
    made.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    stream = b"".join(b"data: %b\n\n" % json.dumps({"model": "m", "choices": [each]}).encode() for each in made)
    bodies = [
        whole,
        stream + b"data: [DONE]\n\n",
        b": OPENROUTER PROCESSING\n\n" + whole,
        whole.decode().encode("utf-16"),
        b"\xef\xbb\xbf" + whole,
        whole + b"\0\n",
        whole.replace(b'"usage": null', b'"usage": {"cost": NaN}, "usage": null'),
        stream[:-20],
    ]
    last = len(bodies) - 1

    def decide(arrival: Arrival) -> Any:
        body = whole if arrival.row == last and arrival.nth > 1 else bodies[arrival.row]
        return 200, {"content-type": "text/event-stream" if body.startswith(b"data") else "application/json"}, body

    served = server(decide)
    one_worker(place, served.url)
    place.write_rows(len(bodies))
    done = place.run("--set", 'output.include=["reasoning"]')
    assert done.code == 0, done.err
    assert [(line["output"], line["reasoning"]) for line in place.lines] == [("a", "hm")] * len(bodies)
    assert served.counts == {row: 2 if row == last else 1 for row in range(len(bodies))}
