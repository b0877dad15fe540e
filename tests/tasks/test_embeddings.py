"""Embeddings: vectors pass as the base64 that they are, each to its own row, and nothing that is no vector passes."""

import base64
import json
import random
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse

from rowmill.core.config import TaskConfig
from rowmill.core.config.sections import InputConfig
from rowmill.core.errors import BadReply, InvalidOutput
from rowmill.core.wire import Answer
from rowmill.tasks.embeddings import Embeddings
from rowmill.tasks.factory import open_task

numbers = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=9)


def encoded(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def vector_of(answer: Any) -> list[float]:
    data = base64.b64decode(json.loads(answer.output))
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def reply(*embeddings: Any, tokens: Any = 7, order: list[int] | None = None) -> bytes:
    indexes = list(range(len(embeddings))) if order is None else order
    data = [
        {"object": "embedding", "index": index, "embedding": each}
        for index, each in zip(indexes, embeddings, strict=True)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json.dumps({"object": "list", "data": data, "model": "m", "usage": usage}).encode()


def refused(body: bytes, rows: int = 1) -> str:
    with pytest.raises(BadReply) as error:
        Embeddings.unpack(body, rows) if rows > 1 else Embeddings.parse(body)
    return str(error.value)


def test_a_vector_passes_as_it_stands_in_the_reply() -> None:
    body = reply(encoded([0.5, -1.0]))
    answer = Embeddings.parse(body)
    assert answer.output == f'"{encoded([0.5, -1.0])}"'.encode()
    assert (answer.finish_reason, answer.model) == (b"null", b'"m"')
    assert json.loads(answer.usage) == {"prompt_tokens": 7, "total_tokens": 7}
    assert (answer.prompt_tokens, answer.completion_tokens) == (7, 0)
    assert CreateEmbeddingResponse.model_validate_json(reply([0.5])).data[0].embedding == [0.5]


@given(numbers)
@settings(max_examples=30)
def test_a_list_of_numbers_gives_the_same_vector(vector: list[float]) -> None:
    assert vector_of(Embeddings.parse(reply(vector))) == vector == vector_of(Embeddings.parse(reply(encoded(vector))))


def test_base64_with_escaped_slashes_is_base64() -> None:
    text = base64.b64encode(b"\xff" * 12).decode()
    assert "/" in text
    body = reply(text).replace(b"/", b"\\/")
    assert Embeddings.parse(body).output == f'"{text}"'.encode()


@given(st.lists(numbers, min_size=1, max_size=12), st.randoms(use_true_random=False), st.integers(0, 10**9))
@settings(max_examples=40)
def test_each_row_gets_its_own_vector_in_whatever_order_they_come(
    vectors: list[list[float]], shuffler: random.Random, tokens: int
) -> None:
    order = list(range(len(vectors)))
    shuffler.shuffle(order)
    body = reply(*[encoded(vectors[index]) for index in order], order=order, tokens=tokens)
    answers = Embeddings.unpack(body, len(vectors))
    assert [vector_of(answer) for answer in answers] == vectors
    shares = [answer.prompt_tokens for answer in answers if isinstance(answer, Answer)]
    assert sum(shares) == tokens
    assert max(shares) - min(shares) <= 1


def test_vectors_without_a_number_are_in_order_and_no_row_tells_of_its_neighbours() -> None:
    data = [{"embedding": encoded([float(index)])} for index in range(3)]
    answers = Embeddings.unpack(json.dumps({"data": data}).encode(), 3)
    assert [vector_of(answer) for answer in answers] == [[0.0], [1.0], [2.0]]
    assert {
        answer.usage for answer in Embeddings.unpack(reply("AAAAAA==", "AAAAAA=="), 2) if isinstance(answer, Answer)
    } == {b"null"}


def test_a_vector_that_is_none_among_others_is_its_rows_own_affair() -> None:
    for bad, problem in (
        ([None], "no embedding: "),
        ([1e39], "an embedding with a number"),
        ("A", "an embedding that"),
    ):
        first, second, third = Embeddings.unpack(reply([0.5], bad, [2.0], order=[0, 2, 1]), 3)
        assert [vector_of(first), vector_of(second)] == [[0.5], [2.0]]
        assert isinstance(third, InvalidOutput)
        assert str(third).startswith(problem)
        assert third.answer.output == b'""'
        assert refused(reply(bad, bad), 2).startswith(problem)  # none is right: the server is no such one
    nan = reply([0.5], [1.0]).replace(b"[1.0]", b"[NaN]")
    assert isinstance(Embeddings.unpack(nan, 2)[1], InvalidOutput)


@pytest.mark.parametrize(
    ("body", "rows", "reason"),
    [
        (b"", 1, "the reply is empty"),
        (b'{"data":null}', 1, "no embedding: "),
        (b'{"data":[{"embedding":"\xff"}]}', 1, "an embedding that is no base64"),
        (reply(), 1, "a reply of 0 embeddings for 1 inputs"),
        (reply("AAAAAA==", "AAAAAA=="), 1, "a reply of 2 embeddings for 1 inputs"),
        (reply("AAAAAA=="), 2, "a reply of 1 embeddings for 2 inputs"),
        (reply("AAAAAA==", "AAAAAA==", order=[0, 0]), 2, "a reply whose embeddings are numbered wrongly: 0 of 2"),
        (reply("AAAAAA==", "AAAAAA==", order=[1, 2]), 2, "a reply whose embeddings are numbered wrongly: 2 of 2"),
        (reply("AAAAAA==", "AAAAAA==", order=[0, -1]), 2, "a reply whose embeddings are numbered wrongly: -1 of 2"),
        (reply("AAAA"), 1, "an embedding of 3 bytes"),
        (reply(""), 1, "an embedding of 0 bytes"),
        (reply("AAAA AA=="), 1, "an embedding that is no base64"),
        (reply("AAAAA"), 1, "an embedding that is no base64"),
        (reply("AA=AAAA="), 1, "an embedding that is no base64"),
        (reply("AAAAAA=A"), 1, "an embedding that is no base64"),
        (reply("AAAA===="), 1, "an embedding that is no base64"),
        (reply("AAAAAé=="), 1, "an embedding that is no base64"),
        (reply([]), 1, "an embedding without numbers"),
        (reply([1e39]), 1, "an embedding with a number that no float32 can hold"),
        (reply(["1"]), 1, "no embedding: "),
        (reply(None), 1, "no embedding: "),
        (reply({"a": 1}), 1, "no embedding: "),
    ],
)
def test_what_is_no_vector_says_why(body: bytes, rows: int, reason: str) -> None:
    assert refused(body, rows).startswith(reason)


def opened(**config: Any) -> Any:
    whole = config.pop("whole_reply", False)
    return open_task(
        TaskConfig(**{"model": "m", "api": "embeddings", "prompt": "<{q}>"} | config),
        InputConfig(path="in.jsonl", id="id"),
        whole_reply=whole,
    )


@pytest.mark.parametrize("config", [{}, {"template": "jinja", "prompt": "<{{ q }}>"}])
def test_rows_go_out_together_and_one_too_as_a_list(config: dict[str, Any]) -> None:
    task = opened(params={"dimensions": 2}, **config)
    assert task.rows_per_request == 64
    pieces = [task.build(json.dumps({"id": number, "q": f'"{number}é'}).encode()) for number in range(3)]
    assert [piece.id for piece in pieces] == [b"0", b"1", b"2"]
    for some in (pieces, pieces[:1]):
        packed = task.pack(some)
        assert json.loads(packed.body) == {
            "model": "m",
            "encoding_format": "base64",
            "dimensions": 2,
            "input": [f'<"{number}é>' for number in range(len(some))],
        }
        assert packed.tokens == len(packed.body) // 4
        assert json.loads(task.asking("other")(packed.body)) == json.loads(packed.body) | {"model": "other"}
    assert len(task.unpack(reply(encoded([1.0])), 1)) == 1


def test_rows_that_cannot_share_a_request_go_out_one_by_one() -> None:
    assert opened(rows_per_request=1).rows_per_request == 1
    assert opened(rows_per_request=2048).rows_per_request == 2048
    row_by_row = opened(per_row={"dimensions": "d"})
    assert row_by_row.rows_per_request == 1
    request = row_by_row.build(b'{"id":1,"q":"a","d":"5"}')
    assert json.loads(request.body)["dimensions"] == 5
    assert row_by_row.pack([request]) is request
    assert row_by_row.unpack(reply(encoded([1.0])), 1) == [Embeddings.parse(reply(encoded([1.0])))]


def test_a_format_that_the_user_names_is_asked_for_and_a_whole_reply_is_left_in_the_servers() -> None:
    assert b'"encoding_format":"float"' in opened(params={"encoding_format": "float"}).pack([]).body
    whole = opened(whole_reply=True)
    assert whole.rows_per_request == 1
    assert json.loads(whole.build(b'{"id":1,"q":"a"}').body) == {"model": "m", "input": "<a>"}
    assert json.loads(whole.parse(reply([0.25])).output) == json.loads(reply([0.25]))
