"""Packs: every row gets the answer that bears its id or is asked again, whatever a reply looks like."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rowmill.core.config import TaskConfig
from rowmill.core.errors import BadReply, ConfigError, Declined, InvalidOutput
from rowmill.core.wire import Answer, Request
from rowmill.tasks import Task
from rowmill.tasks.chat import Chat
from rowmill.tasks.composed import ComposedTask
from rowmill.tasks.packing import PackedTask
from rowmill.tasks.plain import PlainTask
from rowmill.tasks.structured import with_format

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"label": {"type": "string"}, "score": {"type": "number"}},
    "required": ["label", "score"],
    "additionalProperties": False,
}


def packed(**changes: Any) -> PackedTask:
    config = TaskConfig(**{"model": "m", "prompt": "Say {text}", "rows_per_request": 20, **changes})
    single = config if config.schema is None else with_format(config)
    return PackedTask(PlainTask(Chat(), single, "id"), config)


TEXTS, OBJECTS = packed(), packed(schema=SCHEMA, system="Label it.")


def rows(task: PackedTask, number: int) -> list[Request]:
    return [task.build(b'{"id":%d,"text":"row \\"%d\\" \\u00e9\\n"}' % (row, row)) for row in range(number)]


def completion(content: Any, finish_reason: str = "stop", usage: Any = None, **message: Any) -> bytes:
    choice = {"index": 0, "message": {"content": content, **message}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150} if usage is None else usage
    return json.dumps({"model": "m-1", "choices": [choice], "usage": usage or None}).encode()


def answered(*entries: Any, indent: int | None = None) -> bytes:
    return completion(json.dumps({"answers": entries}, indent=indent))


def entry(id_: Any, answer: Any) -> dict[str, Any]:
    return {"id": id_, "answer": answer}


def outputs(results: list[Answer | InvalidOutput]) -> list[Any]:
    """Show an answer as its value, anything else as its problem."""
    return [str(each) if isinstance(each, InvalidOutput) else [json.loads(each.output)] for each in results]


# Requests


def test_a_pack_asks_for_its_rows_by_their_places_in_the_form_that_the_simulator_knows() -> None:
    task: Task = TEXTS
    body = json.loads(task.pack(rows(TEXTS, 3)).body)
    assert body["model"] == "m"
    system, user = body["messages"]
    assert user["role"] == "user"
    assert json.loads(user["content"]) == [
        {"id": str(place), "prompt": f'Say row "{place - 1}" é\n'} for place in (1, 2, 3)
    ]
    assert system["role"] == "system"
    assert '{"answers": [{"id": "...", "answer": ...}]}' in system["content"]
    wanted = body["response_format"]["json_schema"]
    assert wanted["strict"] is True
    items = wanted["schema"]["properties"]["answers"]["items"]
    assert items["properties"] == {"id": {"type": "string"}, "answer": {"type": "string"}}


def test_a_pack_of_rows_with_a_schema_has_it_and_the_users_system_prompt() -> None:
    body = json.loads(OBJECTS.pack(rows(OBJECTS, 2)).body)
    assert body["messages"][0]["content"].startswith("Label it.\n\nThe message of the user is a JSON list")
    wanted = body["response_format"]["json_schema"]
    assert wanted["strict"] is True
    assert wanted["schema"]["properties"]["answers"]["items"]["properties"]["answer"] == SCHEMA


def test_a_pack_of_one_row_is_its_ordinary_request() -> None:
    for task, single in (
        (TEXTS, PlainTask(Chat(), TaskConfig(model="m", prompt="Say {text}"), "id")),
        (
            OBJECTS,
            PlainTask(
                Chat(), with_format(TaskConfig(model="m", prompt="Say {text}", system="Label it.", schema=SCHEMA)), "id"
            ),
        ),
    ):
        line = b'{"id":7,"text":"x"}'
        request = task.build(line)
        assert task.pack([request]) is request
        assert request == single.build(line)
        assert task.asking("other")(request.body) == single.asking("other")(request.body)


def test_another_model_is_asked_the_same_pack() -> None:
    for task in (TEXTS, OBJECTS, packed(params={"max_tokens": 9})):
        body = task.pack(rows(task, 3)).body
        other = task.asking("a/longer-name")(body)
        assert json.loads(other) == {**json.loads(body), "model": "a/longer-name"}


def test_packs_of_all_lengths_have_one_schema_and_the_length_of_reply_that_their_rows_need() -> None:
    task = packed(params={"max_tokens": 100, "temperature": 0})
    two, three = (json.loads(task.pack(rows(task, number)).body) for number in (2, 3))
    assert two["response_format"] == three["response_format"]
    assert two["temperature"] == 0
    assert (two["max_tokens"], three["max_tokens"]) == (2 * 116 + 16, 3 * 116 + 16)
    assert json.loads(task.build(b'{"id":1,"text":"x"}').body)["max_tokens"] == 100


def test_what_rows_share_is_counted_once() -> None:
    assert TEXTS.shared_tokens == 0
    task = packed(system="x" * 4000)
    assert 900 < task.shared_tokens <= 1000
    requests = rows(task, 20)
    saved = sum(request.tokens for request in requests) - task.pack(requests).tokens
    assert 0.9 * saved < 19 * task.shared_tokens < 1.1 * saved


def test_system_prompts_that_differ_go_with_their_rows() -> None:
    config = TaskConfig(
        model="m", prompt="Say {{ text }}", system="In {{ language }}.", template="jinja", rows_per_request=9
    )
    task = PackedTask(ComposedTask(Chat(), config, None), config)
    lines = [json.dumps({"text": "x", "language": language}).encode() for language in ("Greek", "Greek", "Thai")]
    requests = [task.build(line) for line in lines]
    alike, different = (json.loads(task.pack(requests[start:]).body)["messages"] for start in (0, 1))
    assert "Greek" not in alike[0]["content"]
    assert [item["prompt"] for item in json.loads(different[1]["content"])] == [
        "In Greek.\n\nSay x",
        "In Thai.\n\nSay x",
    ]
    alike = json.loads(task.pack(requests[:2]).body)["messages"]
    assert alike[0]["content"].startswith("In Greek.\n\nThe message")
    assert [item["prompt"] for item in json.loads(alike[1]["content"])] == ["Say x", "Say x"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"api": "responses"}, 'above 1 needs task.api "chat.completions", not "responses"'),
        ({"images": ["url"]}, "rows with task.images cannot share a request; set it to 1"),
        ({"messages": "column", "prompt": None}, "rows with task.messages cannot share a request"),
        ({"per_row": {"model": "column"}}, "rows with task.per_row cannot share a request"),
        ({"params": {"stop": ["\n"]}}, "task.params.stop cannot be kept for rows that share a request"),
        ({"params": {"response_format": {}}}, "task.params.response_format cannot be kept"),
    ],
)
def test_what_rows_cannot_share_is_refused(changes: dict[str, Any], message: str) -> None:
    config = TaskConfig(**{"model": "m", "prompt": "{text}", "rows_per_request": 2, **changes})
    with pytest.raises(ConfigError, match=r"^task\.rows_per_request: ") as error:
        PackedTask(PlainTask(Chat(), TaskConfig(model="m", prompt="{text}"), None), config)
    assert message in str(error.value)


# Replies


def test_answers_in_any_order_go_to_their_rows() -> None:
    for indent in (None, 2):
        results = TEXTS.unpack(answered(entry("3", "c"), entry("1", "a"), entry(2, "b\n"), indent=indent), 3)
        assert outputs(results) == [["a"], ["b\n"], ["c"]]
        first = results[0]
        assert isinstance(first, Answer)
        assert (first.output, first.finish_reason, first.model) == (b'"a"', b'"stop"', b'"m-1"')


def test_answers_with_a_schema_are_held_against_it_each_by_itself() -> None:
    good = {"label": "x", "score": 1.5}
    results = OBJECTS.unpack(
        answered(entry("1", good), entry("2", {"label": "x", "score": "y"}), entry("3", "text"), indent=1), 3
    )
    assert outputs(results) == [
        [good],
        '/score: "y" is not of type "number"',
        '"text" is not of type "object"',
    ]
    assert isinstance(results[0], Answer)
    assert results[0].output == b'{"label":"x","score":1.5}'
    assert isinstance(results[1], InvalidOutput)
    assert json.loads(json.loads(results[1].answer.output)) == {"label": "x", "score": "y"}


def test_missing_repeated_unknown_and_wrong_answers_are_their_rows_own() -> None:
    results = TEXTS.unpack(
        answered(
            entry("1", "a"), entry("2", "b"), entry("2", "other"), entry("3", "c"), entry("3", "c"),
            entry("4", 7), entry("05", "e"), entry("9", "f"), {"id": "6"}, "text", None, entry(True, "x"),
        ),
        7,
    )  # fmt: skip
    missing = "the pack's reply has no answer with this row's id"
    different = "the pack's reply has different answers with this row's id"
    assert outputs(results) == [["a"], different, ["c"], "the answer is no text", missing, missing, missing]
    texts = [json.loads(each.answer.output) for each in results if isinstance(each, InvalidOutput)]
    assert texts == ['"b"\n"other"', "7", "", "", ""]


@pytest.mark.parametrize(
    ("content", "finish_reason", "problem"),
    [
        ("Sure!", "stop", "the reply is no JSON: "),
        ("", "stop", "the reply is empty"),
        ('{"answers":[{"id":"1","answer":"a"},{"id":"2","ans', "length", "the reply was cut off at its token limit "),
        ("{}", "stop", "the pack's reply is not of the form asked for: "),
        ('{"answers":{"1":"a"}}', "stop", "the pack's reply is not of the form asked for: "),
        ("[]", "stop", "the pack's reply is not of the form asked for: "),
    ],
)
def test_a_reply_that_is_no_pack_is_no_rows_answer_and_is_kept_once(
    content: str, finish_reason: str, problem: str
) -> None:
    results = TEXTS.unpack(completion(content, finish_reason), 3)
    kept = []
    for each in results:
        assert isinstance(each, InvalidOutput)
        assert str(each).startswith(problem)
        kept.append(json.loads(each.answer.output))
    assert kept == [content, "", ""]
    assert sum(each.answer.prompt_tokens for each in results if isinstance(each, InvalidOutput)) == 100


def test_a_pack_in_a_code_fence_is_read() -> None:
    fenced = "```json\n" + json.dumps({"answers": [entry("1", "a"), entry("2", "b")]}) + "\n```"
    assert outputs(TEXTS.unpack(completion(fenced), 2)) == [["a"], ["b"]]


def test_what_is_no_reply_is_none_of_a_pack_either() -> None:
    for task in (TEXTS, OBJECTS):
        with pytest.raises(BadReply):
            task.unpack(b"{}", 2)
        with pytest.raises(Declined, match=r"^No$"):
            task.unpack(completion(None, refusal="No"), 2)
        with pytest.raises(BadReply):
            task.unpack(b"", 1)


def test_a_pack_of_one_row_is_read_as_its_ordinary_reply() -> None:
    assert outputs(TEXTS.unpack(completion("a text"), 1)) == [["a text"]]
    good = {"label": "x", "score": 1}
    assert outputs(OBJECTS.unpack(completion(json.dumps(good)), 1)) == [[good]]
    assert outputs(OBJECTS.unpack(completion('{"label":"x"}'), 1)) == ['"score" is a required property']


@given(prompt=st.integers(0, 1000), out=st.integers(0, 1000), number=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_the_packs_tokens_are_split_so_that_their_sums_are_right(prompt: int, out: int, number: int) -> None:
    usage = {"prompt_tokens": prompt, "completion_tokens": out, "total_tokens": prompt + out}
    results = TEXTS.unpack(completion(json.dumps({"answers": [entry("1", "a")]}), usage=usage), number)
    answers = [each.answer if isinstance(each, InvalidOutput) else each for each in results]
    for member, total in (("prompt_tokens", prompt), ("completion_tokens", out)):
        parts = [getattr(answer, member) for answer in answers]
        assert sum(parts) == total
        assert max(parts) - min(parts) <= 1


def test_broken_unicode_and_control_characters_in_a_pack_are_mended() -> None:
    content = r'{"answers":[{"id":"1","answer":"a\ud83d"},{"id":"2","answer":"b@c"}]}'.replace("@", "\n\x01")
    assert [each.output for each in TEXTS.unpack(completion(content), 2)] == [rb'"a\ufffd"', rb'"b\n\u0001c"']  # type: ignore[union-attr]  # answers


@pytest.mark.parametrize("rows", [1, 2])
def test_no_row_has_a_usage_of_its_own_for_it_depends_on_the_rows_beside_it(rows: int) -> None:
    body = completion(json.dumps({"answers": [entry("1", "a"), entry("2", "b")]}))
    for each in TEXTS.unpack(body, rows):
        assert isinstance(each, Answer)
        assert each.usage == b"null"


# Any damage

ROWS = 4
RIGHT = {str(place): f"answer {place}" for place in range(1, ROWS + 1)}
wrong = st.none() | st.integers() | st.lists(st.integers(), max_size=2) | st.just({"answer": "answer 1"})
entries = st.lists(
    st.sampled_from(sorted(RIGHT)).map(lambda id_: entry(id_, RIGHT[id_]))  # right ones, dropped, repeated or moved
    | st.builds(entry, st.sampled_from(["0", "5", "01", "1 ", "", "x", None, -1, 1.0, True, [1]]), st.just("nobody's"))
    | st.builds(entry, st.sampled_from(sorted(RIGHT)), wrong)
    | wrong,
    max_size=8,
)


@given(entries, st.integers(0, 400), st.text(max_size=3))
@settings(max_examples=150, deadline=None)
@example([entry(id_, RIGHT[id_]) for id_ in RIGHT], 400, "")
@example([entry(10**4000, "nobody's")], 10_000, "")
def test_no_damage_gives_a_row_the_answer_of_another_or_loses_a_row(made: list[Any], cut: int, patch: str) -> None:
    text = json.dumps({"answers": made})
    whole = cut >= len(text)
    if not whole:
        text = text[:cut] + patch
    for body in (completion(text), completion(text, "length")):
        results = TEXTS.unpack(body, ROWS)
        assert len(results) == ROWS
        for place, result in enumerate(results, 1):
            if isinstance(result, Answer):
                assert json.loads(result.output) == RIGHT[str(place)]
            else:
                assert isinstance(result, InvalidOutput)
                assert 0 < len(str(result)) < 700
                assert isinstance(json.loads(result.answer.output), str)
    if whole:
        given_ = {id_: {str(each["answer"]) for each in made if _id_of(each) == id_} for id_ in RIGHT}
        found = {str(place) for place, result in enumerate(results, 1) if isinstance(result, Answer)}
        assert found == {id_ for id_, answers in given_.items() if answers == {RIGHT[id_]}}


def _id_of(made: Any) -> Any:
    return made.get("id") if isinstance(made, dict) else None


@given(st.binary(max_size=60), st.integers(0, 300), st.integers(1, 5))
@settings(max_examples=80, deadline=None)
def test_no_bytes_do_worse_than_a_bad_reply(patch: bytes, at: int, number: int) -> None:
    body = answered(entry("1", {"label": "x", "score": 1}), entry("2", {"label": "y", "score": 2}))
    for task in (TEXTS, OBJECTS):
        try:
            results = task.unpack(body[:at] + patch + body[at + len(patch) :], number)
        except (BadReply, Declined):
            continue
        assert len(results) == number


# Asking again


def test_a_row_that_was_wrong_in_a_pack_is_asked_again_by_itself() -> None:
    request = OBJECTS.build(b'{"id":1,"text":"x"}')
    good, bad = OBJECTS.unpack(answered(entry("1", {"label": "x", "score": 1}), entry("2", {"label": "x"})), 2)
    assert isinstance(good, Answer)
    assert isinstance(bad, InvalidOutput)
    again = OBJECTS.again(request, bad)
    first, second = json.loads(request.body), json.loads(again.body)
    assert second["response_format"] == first["response_format"]
    assert [message["role"] for message in second["messages"]] == ["system", "user", "assistant", "user"]
    assert second["messages"][2]["content"] == '{"label": "x"}'
    assert '"score" is a required property' in second["messages"][3]["content"]
    assert json.loads(OBJECTS.asking("other")(again.body)) == {**second, "model": "other"}
    # Packed once more, it is asked by its prompt alone.
    pack = json.loads(OBJECTS.pack([again, request]).body)["messages"][1]["content"]
    assert [item["prompt"] for item in json.loads(pack)] == ["Say x", "Say x"]


def test_a_row_of_texts_that_was_wrong_in_a_pack_is_simply_asked() -> None:
    request = TEXTS.build(b'{"id":1,"text":"x"}')
    for each in TEXTS.unpack(answered(entry("1", 7)), 2):
        assert isinstance(each, InvalidOutput)
        assert TEXTS.again(request, each) == request


def test_rows_are_read_as_the_task_inside_reads_them() -> None:
    assert TEXTS.columns == ["text", "id"]
    assert TEXTS.rows_per_request == 20
    assert TEXTS.id_of(b'{"text":"a","id":7}') == b"7"
    assert TEXTS.input_of(b' {"a":1}') == b'{"a":1}'
    TEXTS.check([b'{"text":"a","id":7}'], "in.jsonl")
    assert msgspec.json.decode(TEXTS.build(b'{"text":"a","id":7}').id) == 7
