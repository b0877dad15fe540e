"""Batch files: lines go out as they are, and what cannot be run says why."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.core.config import TaskConfig
from rowmill.core.config.sections import InputConfig
from rowmill.core.errors import InputError, InvalidRow
from rowmill.core.rows import BROKEN
from rowmill.tasks import Task
from rowmill.tasks.batch_file import URLS, api_of
from rowmill.tasks.factory import open_task

CHAT = "/v1/chat/completions"
BODY = {"model": "own", "messages": [{"role": "user", "content": "Hé"}], "temperature": 0.5}


def line(**members: Any) -> bytes:
    whole = {"custom_id": "row-1", "method": "POST", "url": CHAT, "body": BODY} | members
    return json.dumps({key: value for key, value in whole.items() if value is not ...}, ensure_ascii=False).encode()


def batch(api: Any = "chat.completions", *, whole_reply: bool = False, model: str | None = None) -> Task:
    config = TaskConfig(api=api, model=model)
    return open_task(config, InputConfig(path="in.jsonl"), input_format="batch", whole_reply=whole_reply)


def reason(text: bytes, api: str = "chat.completions", *, whole_reply: bool = False) -> str:
    with pytest.raises(InvalidRow) as error:
        batch(api, whole_reply=whole_reply).build(text)
    return str(error.value)


def test_a_body_goes_out_byte_for_byte_under_its_custom_id() -> None:
    body = b'{ "messages" : [{"role":"user","content":"H\xc3\xa9 \\u00e9"}],  "odd": 1.50, "model":"own"}'
    text = b'{"body":%b,"url":"%b","method":"POST","custom_id":"a \\"1\\"","more":5}' % (body, CHAT.encode())
    request = batch().build(text)
    assert request.body == body
    assert json.loads(request.id) == 'a "1"'
    assert json.loads(batch().id_of(text)) == 'a "1"'
    assert request.tokens == len(body) // 4


def test_the_configurations_model_wins_over_the_lines_and_a_providers_over_both() -> None:
    own = batch().build(line())
    ours = batch(model="ours").build(line())
    assert json.loads(own.body) == BODY
    assert json.loads(ours.body) == BODY | {"model": "ours"}
    for request in (own, ours):
        assert json.loads(batch().asking("theirs")(request.body)) == BODY | {"model": "theirs"}
    without = {key: value for key, value in BODY.items() if key != "model"}
    assert json.loads(batch(model="ours").build(line(body=without)).body) == BODY | {"model": "ours"}


@pytest.mark.parametrize(("url", "api"), URLS.items())
def test_the_api_is_that_of_the_first_lines(url: str, api: str) -> None:
    assert api_of([b"", b"no json", b"[]", line(url="/v1/other"), line(url=url)], "in.jsonl") == api
    assert batch(api).build(line(url=url)).body
    batch(api).check([line(url="/v1/other"), line(url=url)], "in.jsonl")


def test_a_file_for_no_api_or_for_two_or_for_another_is_refused() -> None:
    with pytest.raises(InputError, match=r"^in\.jsonl: no line of a batch file .* '/v1/images', and must be one of"):
        api_of([line(url="/v1/images")], "in.jsonl")
    with pytest.raises(InputError, match="none at all"):
        api_of([b'{"text":"a"}'], "in.jsonl")
    with pytest.raises(InputError, match=r"lines for /v1/chat/completions and /v1/embeddings; split the file"):
        api_of([line(), line(url="/v1/embeddings")], "in.jsonl")
    with pytest.raises(InputError, match=r"the lines are for embeddings, and the run is for chat\.completions"):
        batch().check([line(url="/v1/embeddings")], "in.jsonl")
    batch().check([b"broken"], "in.jsonl")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (line(custom_id=...), "no line of a batch file (custom_id, method, url, body): "),
        (line(custom_id=5), "no line of a batch file"),
        (line(custom_id=""), "custom_id is empty"),
        (line(method="GET"), "method 'GET': only POST"),
        (line(url="/v1/embeddings"), "url '/v1/embeddings': this run is for /v1/chat/completions"),
        (line(body=...), "no line of a batch file"),
        (line(body=[]), "body: "),
        (line(body=None), "body: "),
        (line(body=BODY | {"stream": True}), "body.stream: "),
        (line()[:-5], "the line is no JSON object: "),
        (b'{"text":"another file"}', "no line of a batch file"),
        (line().replace("é".encode(), b"\xff"), "no line of a batch file"),
        (b"", "the line is blank"),
        (BROKEN + b"too wide", "too wide"),
    ],
)
def test_a_line_that_cannot_be_run_says_why(text: bytes, words: str) -> None:
    assert reason(text).startswith(words)
    json.loads(batch().id_of(text))


def test_several_vectors_to_one_line_are_kept_only_where_replies_are_kept_whole() -> None:
    url = "/v1/embeddings"
    several = line(url=url, body={"model": "m", "input": ["a", "b"]})
    assert reason(several, "embeddings").startswith("body.input: several texts")
    assert batch("embeddings", whole_reply=True).build(several).body
    for one in ("a", ["a"], [1, 2, 3], [[1, 2, 3]], [], 5):
        assert batch("embeddings").build(line(url=url, body={"model": "m", "input": one})).body
    for whole_reply in (False, True):  # the output has all choices
        assert batch(whole_reply=whole_reply).build(line(body=BODY | {"n": 2, "stream": False})).body
    assert reason(line(body=BODY | {"stream": True}), whole_reply=True).startswith("body.stream: ")


def test_a_line_with_an_image_counts_it_as_an_image() -> None:
    url = "data:image/png;base64," + "A" * 400_000
    content = [{"type": "image_url", "image_url": {"url": url}}]
    request = batch().build(line(body={"model": "m", "messages": [{"role": "user", "content": content}]}))
    assert request.tokens < 2000


@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.integers() | st.text(max_size=5), lambda inner: st.dictionaries(st.sampled_from(
        ["custom_id", "method", "url", "body", "model", "input"]), inner, max_size=5), max_leaves=6
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
@settings(max_examples=60)
def test_no_line_does_worse_than_an_invalid_row(text: bytes) -> None:
    task = batch(model="m")
    json.loads(task.id_of(text))
    try:
        request = task.build(text)
    except InvalidRow:
        return
    json.loads(request.body)


def test_the_members_of_extra_body_are_put_on_top_of_the_others() -> None:
    extra = {**BODY, "extra_body": {"top_k": 5, "temperature": 1.50}}
    assert json.loads(batch().build(line(body=extra)).body) == {**BODY, "temperature": 1.5, "top_k": 5}
    odd = {**BODY, "extra_body": "x"}
    assert json.loads(batch().build(line(body=odd)).body) == odd, "the server's to refuse"
    assert "body.stream" in reason(line(body={**BODY, "extra_body": {"stream": True}}))
