"""`/embeddings`: a vector follows from its text alone, both formats are the same numbers, and OpenAI's limits hold."""

import base64
import json
import math
import struct
from itertools import combinations
from typing import Any

import pytest
from openai.types import CreateEmbeddingResponse

from rowmill.simulator.replies import RequestError
from rowmill.simulator.replies.embeddings import compose, vector


def _body(given: Any, **extra: Any) -> bytes:
    return json.dumps({"model": "sim-embedding", "input": given, **extra}).encode()


def _vectors(given: Any, **extra: Any) -> list[list[float]]:
    reply = CreateEmbeddingResponse.model_validate_json(compose(_body(given, **extra), bytes(16)).body)
    assert [embedding.index for embedding in reply.data] == list(range(len(reply.data)))
    return [embedding.embedding for embedding in reply.data]


def _decoded(text: str) -> list[float]:
    raw = base64.b64decode(text, validate=True)
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


def test_both_formats_hold_the_same_numbers() -> None:
    texts = ["one", "two", "zwölf ✓"]
    reply = json.loads(compose(_body(texts, encoding_format="base64"), bytes(16)).body)
    assert [_decoded(entry["embedding"]) for entry in reply["data"]] == _vectors(texts)
    assert reply["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_a_vector_follows_from_its_text_and_not_from_its_place() -> None:
    assert _vectors(["a", "b"]) == _vectors(["b", "a"])[::-1]
    assert _vectors("a") == _vectors(["a"]) == [list(struct.unpack("<1536f", vector("a")))]


def test_vectors_are_about_1_long_and_hardly_alike() -> None:
    vectors = _vectors([f"row {number}" for number in range(40)])
    assert all(math.hypot(*one) == pytest.approx(1, abs=0.1) for one in vectors)
    assert max(abs(sum(map(float.__mul__, a, b))) for a, b in combinations(vectors, 2)) < 0.6


def test_texts_that_share_their_words_have_vectors_that_are_near() -> None:
    text = "The deck of a suspension bridge hangs from cables that run over towers to anchors in the ground"
    others = [text.upper(), text.replace("cables", "steel cables"), "Tides are the rise and fall of the sea", "short"]
    first, *vectors = _vectors([text, *others])
    near = [sum(map(float.__mul__, first, one)) / math.hypot(*first) / math.hypot(*one) for one in vectors]
    assert near[0] > 0.98
    assert near[1] > 0.8
    assert max(near[2:]) < 0.4
    assert first not in vectors, "each has its own"


@pytest.mark.parametrize("dimensions", [1, 7, 8, 9, 256, 3072])
def test_a_vector_has_the_dimensions_that_were_asked_for(dimensions: int) -> None:
    assert [len(one) for one in _vectors(["a", "b"], dimensions=dimensions)] == [dimensions] * 2


def test_the_most_inputs_and_tokens_are_taken_and_counted() -> None:
    completion = compose(_body(["x" * 4 * 146] * 2048, dimensions=1, encoding_format="base64"), bytes(16))
    assert (completion.inputs, completion.prompt_tokens, completion.completion_tokens) == (2048, 146 * 2048, 0)
    assert completion.charge == 146 * 2048


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (_body([]), 400, "1 to 2048 inputs, but got 0"),
        (_body(["x"] * 2049), 400, "1 to 2048 inputs, but got 2049"),
        (_body(["x" * 4 * 147] * 2048), 400, "Requested 301056 tokens, max 300000"),
        (_body(["a", ""]), 400, r"input\[1\].*cannot be an empty string"),
        (_body("x" * 4 * 8193), 400, "maximum input length is 8192 tokens, but got 8193"),
        (_body("a", dimensions=0), 400, "dimensions"),
        (_body("a", encoding_format="int8"), 400, "int8"),
        (_body([1, 2]), 400, "Expected `str`"),
        (_body("a").replace(b"sim-", b"unknown-"), 404, "does not exist"),
    ],
)
def test_a_wrong_request_is_refused(body: bytes, status: int, said: str) -> None:
    with pytest.raises(RequestError, match=said) as caught:
        compose(body, bytes(16))
    assert caught.value.status == status
