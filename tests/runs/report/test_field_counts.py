"""What stands in the fields of replies, whatever it is, is counted in bounded memory."""

import math
from typing import Any

import msgspec
import pytest

from rowmill.runs.report.document import FieldFacts, FieldsFacts
from rowmill.runs.report.field_counts import FieldCounts


def counted(outputs: list[Any]) -> FieldsFacts:
    counts = FieldCounts()
    for output in outputs:
        counts.take(output, 100)
    facts = counts.facts(len(outputs))
    assert facts is not None
    msgspec.json.encode(facts)
    return facts


def field(outputs: list[Any], name: str) -> FieldFacts:
    (found,) = [each for each in counted(outputs).fields if each.name == name]
    return found


def test_few_values_are_counted_each() -> None:
    outputs = [{"label": ("billing", "returns", "other")[place % 3], "sure": place % 2 == 0} for place in range(30)]
    facts = counted([*outputs, {"label": None}, {"label": 1}])
    assert (facts.looked_at, facts.of, facts.more) == (32, 32, 0)
    label, sure = facts.fields
    assert (label.rows, label.null, label.kind) == (32, 1, "mixed")
    assert sorted(label.values) == [("1", 1), ("billing", 10), ("other", 10), ("returns", 10)]
    assert (sure.kind, sorted(sure.values), sure.distinct, sure.more) == (
        "values", [("false", 15), ("true", 15)], 2, 0,
    )  # fmt: skip


def test_true_and_1_are_told_apart() -> None:
    assert sorted(field([{"a": True}, {"a": 1}, {"a": "1"}], "a").values) == [("1", 1), ("1", 1), ("true", 1)]


def test_numbers_are_told_by_what_they_come_to() -> None:
    numbers = field([{"score": place / 10} for place in range(1_001)], "score")
    assert numbers.kind == "numbers"
    assert numbers.numbers is not None
    assert (numbers.numbers.min, numbers.numbers.median, numbers.numbers.max) == (0.0, 50.0, 100.0)
    assert (numbers.numbers.mean, numbers.numbers.count) == (50.0, 1_001)
    assert sum(count for _, _, count in numbers.numbers.buckets) == 1_001
    few = field([{"stars": place % 5 + 1} for place in range(50)], "stars")
    assert (few.kind, few.distinct, few.numbers is not None and few.numbers.mean) == ("values", 5, 3.0)


@pytest.mark.parametrize(
    "odd", [10**400, -(10**400), pytest.param(10**5_000, id="many digits"), 1e308, 5e-324, math.nan, math.inf]
)
def test_numbers_that_are_none_of_any_use_break_nothing(odd: float) -> None:
    facts = field([{"n": odd}, {"n": 1}, {"n": 3}], "n")
    assert facts.rows == 3
    assert facts.numbers is not None
    assert facts.numbers.max < 1e300


def test_very_many_numbers_are_told_by_some_from_all_over() -> None:
    facts = field([{"n": place} for place in range(100_000)], "n").numbers
    assert facts is not None
    assert (facts.min, facts.max, facts.mean, facts.count) == (0, 99_999, 49_999.5, 100_000)
    assert facts.median == pytest.approx(50_000, rel=0.01)
    assert sum(count for _, _, count in facts.buckets) == pytest.approx(100_000, rel=0.01)


def test_stretches_of_whole_numbers_have_as_many_of_them_each() -> None:
    ages = field([{"age": place % 96} for place in range(960)], "age").numbers
    assert ages is not None
    assert ages.buckets == [(low, low + 4, 40) for low in range(0, 96, 4)]
    words = field([{"word": "x" * (3 + place % 4)} for place in range(40)], "word").lengths
    assert words is not None
    assert words.buckets == [(3, 4, 10), (4, 5, 10), (5, 6, 10), (6, 7, 10)]
    one = field([{"n": 7, "f": 0.5}] * 3, "n").numbers
    assert one is not None
    assert one.buckets == [(7, 7, 3)]


def test_texts_that_are_all_others_are_told_by_their_length() -> None:
    facts = field([{"summary": f"{place} {'x' * (place % 50)}"} for place in range(9_000)], "summary")
    assert (facts.kind, facts.values, facts.distinct) == ("texts", [], None)
    assert facts.lengths is not None
    assert (facts.lengths.min, facts.lengths.count) == (2.0, 9_000)
    assert facts.lengths.p25 < facts.lengths.median < facts.lengths.p75 < facts.lengths.max
    assert sum(count for _, _, count in facts.lengths.buckets) == 9_000
    long = field([{"text": "y" * 1_000_000}, {"text": ""}], "text")
    assert long.lengths is not None
    assert long.lengths.max == 1_000_000
    assert len(long.values[0][0]) <= 120


def test_members_of_lists_and_fields_of_objects_are_told() -> None:
    outputs = [{"tags": ["a", "b"], "who": {"name": "x", "where": {"city": "B", "geo": {"lat": 1}}}}] * 3
    facts = {each.name: each for each in counted([*outputs, {"tags": [], "who": "nobody"}]).fields}
    assert sorted(facts) == ["tags", "who", "who.name", "who.where.city", "who.where.geo"]
    assert sorted(facts["tags"].values) == [("a", 3), ("b", 3)]
    assert facts["tags"].lengths is not None
    assert (facts["tags"].lengths.min, facts["tags"].lengths.max, facts["tags"].rows) == (0, 2, 4)
    assert facts["who"].values == [("nobody", 1)]
    assert facts["who.where.geo"].values == [('{"lat":1}', 3)]


def test_a_reply_that_is_no_object_is_a_field_of_its_own() -> None:
    facts = counted(["yes", "no", "yes", None])
    assert [(each.name, each.values, each.null) for each in facts.fields] == [("reply", [("yes", 2), ("no", 1)], 1)]
    assert FieldCounts().facts(0) is None


def test_however_many_fields_and_values_there_are_it_stays_small() -> None:
    wide = counted([{f"field {place} {row}": f"{row}" * 50 for place in range(500)} for row in range(20)])
    assert (len(wide.fields), wide.more) == (60, 300 - 60 + 4_096)
    many = counted([{"a": f"value {place}" * 100, "b": place, "c": [place]} for place in range(10_000)])
    assert len(msgspec.json.encode(wide)) + len(msgspec.json.encode(many)) < 500_000


def test_half_a_surrogate_pair_and_marks_of_direction_are_text_as_any_other() -> None:
    facts = counted([{"a\ud800": "b\ud800", "c": "\u202e</script>\x00"}] * 2)
    assert [(each.name, each.values) for each in facts.fields] == [
        ("a?", [("b?", 2)]),
        ("c", [("\u202e</script>\x00", 2)]),
    ]
