"""Two runs as a document: what differs is told word by word, and it stays small whatever the rows are."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from rowmill.runs.comparing import Agreement, Compared, Side
from rowmill.runs.report.compared import ComparedDocument, compared_document, word_diff

WORDS = st.lists(st.sampled_from(["a", "b", "cat", " ", "  ", "\n", ",", "{", "3.5", "é", "\u202e"]), max_size=60)


@given(WORDS.map("".join), WORDS.map("".join))
def test_the_pieces_of_each_side_are_its_text(one: str, other: str) -> None:
    pieces = word_diff(one, other)
    assert "".join(text for kind, text in pieces if kind != "second") == one
    assert "".join(text for kind, text in pieces if kind != "first") == other
    assert all(text for _, text in pieces)


def test_words_and_numbers_are_told_apart_whole() -> None:
    assert word_diff('{"sure":0.58,"label":"a b"}', '{"sure":0.59,"label":"a c"}') == [
        ("same", '{"sure":'),
        ("first", "0.58"),
        ("second", "0.59"),
        ("same", ',"label":"a '),
        ("first", "b"),
        ("second", "c"),
        ("same", '"}'),
    ]


def test_a_failure_and_an_answer_have_nothing_in_common() -> None:
    failed = {"index": 3, "id": "x", "output": None, "error": {"class": "auth", "message": "no."}}
    answered = {"index": 3, "id": "x", "output": "yes.", "error": None}
    sides = (Side(run_dir="a.run", rows=2), Side(run_dir="b.run", rows=2, usd=0.5))
    document = compared_document(Compared(sides=sides, differ=1, differing=[(failed, answered)]))
    (row,) = document.differing
    assert (row.index, row.id, row.failed) == (3, "x", (True, False))
    assert row.diff == [("first", "auth: no."), ("second", "yes.")]
    assert (document.sides[1].usd, document.more_differing) == (0.5, 0)


def test_long_rows_and_many_fields_stay_small() -> None:
    lines = [{"index": at, "id": "i" * 5_000, "output": f"{at} word " * 20_000} for at in range(200)]
    others = [{**line, "output": f"{line['index']} other " * 20_000} for line in lines]
    fields = {f"{at} {'f' * 3_000}": Agreement(both=1) for at in range(5_000)}
    compared = Compared(
        sides=(Side(run_dir="a" * 9_000), Side(run_dir="b")), fields=fields, differ=500,
        differing=list(zip(lines, others, strict=True)),
    )  # fmt: skip
    data = msgspec.json.encode(compared_document(compared))
    assert len(data) < 500_000
    document = msgspec.json.decode(data, type=ComparedDocument)
    assert (len(document.differing), document.more_differing) == (50, 450)
    assert (len(document.fields), document.more_fields) == (60, 4_940)


def test_what_differs_far_behind_is_shown() -> None:
    one = {"index": 0, "id": None, "output": "word " * 5_000 + "cat"}
    other = {**one, "output": "word " * 5_000 + "dog"}
    document = compared_document(Compared(sides=(Side(run_dir="a"), Side(run_dir="b")), differing=[(one, other)]))
    (row,) = document.differing
    assert row.diff == [("same", f"…{'word ' * 40}"), ("first", "cat"), ("second", "dog")]
    numbers = [{**one, "output": [1] * 5_000 + [last]} for last in (2, 3)]
    compared = Compared(sides=(Side(run_dir="a"), Side(run_dir="b")), differing=[(numbers[0], numbers[1])])
    assert compared_document(compared).differing[0].diff[1:] == [("first", "2"), ("second", "3"), ("same", "]")]
