"""`rowmill dedup` by the real command: what it keeps, what it lists, what it refuses."""

import json
from collections.abc import Callable

import pytest

from tests.end_to_end.conftest import Done, Place, Witness

ROWS = 600  # several shards of vectors
SET = ("--set=task.api=embeddings", "--set=task.params={dimensions = 64}", '--set=task.prompt="{text}"')
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]

Simulate = Callable[..., Witness]


def text(number: int) -> str:
    return " ".join(f"{word}{number}" for word in WORDS)


def dedup(place: Place, *arguments: str) -> Done:
    return place.start(*SET, *arguments, command="dedup").wait()


def write(place: Place) -> list[bytes]:
    """Write rows, of which every third says the same as the one two before, in capitals; and two bad ones."""
    lines = []
    for row in range(ROWS):
        said = text(row - 2).upper() if row % 3 == 2 else text(row)
        lines.append(json.dumps({"id": row, "text": said, "more": {"ä": 1.50}}).encode() + b"\n")
    lines[10] = b"no json\n"
    lines[13] = b'{"id": 13}\n'
    place.write_lines(lines)
    return lines


def test_kept_rows_are_those_of_the_input_and_the_others_name_the_one_that_they_are_like(
    place: Place, simulator: Simulate
) -> None:
    lines = write(place)
    place.configure(simulator().url)
    refused = dedup(place)
    assert (refused.code, "holds no run" in refused.err) == (5, True), refused.err
    assert place.run(*SET).code == 1
    done = dedup(place)
    assert done.code == 0, done.err
    assert done.err == (
        "rowmill: 399 of 600 rows are kept, in in.kept.jsonl; 200 near-duplicates are listed in "
        "in.kept.duplicates.jsonl; 2 without a vector are kept, but for 1 that is no row\n"
    )
    gone = {row for row in range(ROWS) if row % 3 == 2}
    kept = [line for row, line in enumerate(lines) if row not in gone and row != 10]
    kept_file, listed_file = (place.folder / name for name in ("in.kept.jsonl", "in.kept.duplicates.jsonl"))
    assert kept_file.read_bytes() == b"".join(kept)
    listed = [json.loads(line) for line in listed_file.read_bytes().splitlines()]
    assert [(each["index"], each["id"], each["of"], each["of_id"]) for each in listed] == [
        (row, row, row - 2, row - 2) for row in sorted(gone)
    ]
    assert all(0.9 <= each["similarity"] <= 1 for each in listed)
    # Nothing is written over, and the same comes of it again.
    before = place.files()
    again = dedup(place)
    assert (again.code, len(again.lines)) == (2, 1)
    assert "in.kept.jsonl exists, and is not written over" in again.err
    assert place.files() == before
    other = dedup(place, "-o", "other.jsonl", "--threshold=0.9", "--json")
    assert json.loads(other.out) == {
        "rows": 600, "kept": 399, "duplicates": 200, "failed": 2, "unreadable": 1,
        "kept_path": "other.jsonl", "duplicates_path": "other.duplicates.jsonl",
    }  # fmt: skip
    assert (place.folder / "other.jsonl").read_bytes() == kept_file.read_bytes()
    assert (place.folder / "other.duplicates.jsonl").read_bytes() == listed_file.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--threshold=1.5"], "the threshold must be above 0 and at most 1, a cosine, and not 1.5"),
        (["-o", "kept.csv"], "kept.csv: kept rows are written as JSON Lines; name a file that ends with .jsonl"),
        (["-o", "gone/kept.jsonl"], "there is no directory gone; make it, or name another file"),
        (["--set=task.api=chat.completions"], 'only a run of "embeddings" has vectors that can be near to each other'),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(place: Place, nobody: str, arguments: list[str], said: str) -> None:
    place.write_rows(3)
    place.configure(nobody)
    done = dedup(place, *arguments)
    assert (done.code, len(done.lines)) == (2, 1), done.err
    assert said in done.err
