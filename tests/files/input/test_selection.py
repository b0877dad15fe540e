"""The first rows of an input, or any: the right number, in order, the same every time, each as likely as another."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.files.input import selection
from rowmill.files.input.selection import first, sample


def blocks(lines: list[bytes], size: int) -> Iterator[bytes]:
    data = b"".join(line + b"\n" for line in lines)
    return (data[start : start + size] for start in range(0, len(data), size))


many = st.lists(st.binary(max_size=6).map(lambda data: data.replace(b"\n", b"")), max_size=60)


@given(lines=many, size=st.integers(1, 40), count=st.integers(-1, 70))
@settings(deadline=None)
def test_the_first_rows_are_the_first_ones(lines: list[bytes], size: int, count: int) -> None:
    assert b"".join(first(blocks(lines, size), count)).split(b"\n")[:-1] == lines[: max(count, 0)]


def test_nothing_is_read_beyond_the_block_with_the_last_of_them() -> None:
    def endless() -> Iterator[bytes]:
        yield b"1\n2\n"
        yield b"3\n4\n"
        raise AssertionError("it was asked for more")

    assert b"".join(first(endless(), 4)) == b"1\n2\n3\n4\n"


@given(lines=many, size=st.integers(1, 40), count=st.integers(-1, 70))
@settings(max_examples=60, deadline=None)
def test_a_sample_is_so_many_different_rows_in_their_order_whatever_the_blocks(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], size: int, count: int
) -> None:
    scratch = tmp_path_factory.getbasetemp()
    numbered = [b"%d:" % number + line for number, line in enumerate(lines)]
    found = b"".join(sample(blocks(numbered, size), count, scratch)).split(b"\n")[:-1]
    assert len(found) == min(max(count, 0), len(lines))
    assert found == sorted(set(found), key=lambda line: int(line.partition(b":")[0]))
    assert set(found) <= set(numbered)
    assert found == b"".join(sample(blocks(numbered, 1000), count, scratch)).split(b"\n")[:-1]


def test_every_row_is_as_likely_as_every_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [b"%d" % number for number in range(40)]
    taken: Counter[bytes] = Counter()
    for seed in range(2000):
        monkeypatch.setattr(selection, "_SEED", seed)
        taken.update(b"".join(sample(blocks(lines, 64), 10, tmp_path)).split(b"\n")[:-1])
    # A fair draw has 500 each, with a standard deviation of 19.4.
    assert all(400 < taken[line] < 600 for line in lines), taken


def test_a_sample_leaves_nothing_behind(tmp_path: Path) -> None:
    assert list(sample(blocks([b"a"] * 50, 7), 5, tmp_path)) == [b"a\n" * 5]
    assert list(tmp_path.iterdir()) == []
