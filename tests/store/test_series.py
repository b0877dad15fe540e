"""The file of a time series: whatever it has come to, it is read as far as it can be, and goes on."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rowmill.core.histograms import quantile
from rowmill.core.moments import Moment
from rowmill.store.series import Series, read


def moment(at: float) -> Moment:
    return Moment(at=at, seconds=1.0, session="a", rows=1)


def test_what_was_written_is_read_also_by_a_later_session(tmp_path: Path) -> None:
    path = tmp_path / "series.jsonl"
    assert read(path) == []
    for at in (1.0, 2.0):
        series = Series(path)
        series.append(moment(at))
        series.append(moment(at + 0.5))
        series.close()
    assert [each.at for each in read(path)] == [1.0, 1.5, 2.0, 2.5]
    assert path.stat().st_mode & 0o777 == tmp_path.stat().st_mode & 0o666


@pytest.mark.parametrize("cut", range(1, 40, 7))
def test_a_torn_line_costs_itself(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "series.jsonl"
    series = Series(path)
    series.append(moment(1.0))
    series.append(moment(2.0))
    series.close()
    os.truncate(path, path.stat().st_size - cut)
    series = Series(path)
    series.append(moment(3.0))
    series.close()
    assert [each.at for each in read(path)] == ([1.0, 2.0, 3.0] if cut == 1 else [1.0, 3.0])


def test_foreign_bytes_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "series.jsonl"
    path.write_bytes(b'\xff\x00\n{"at":1}\n[]\n' + b"[" * 100_000 + b"\n")
    series = Series(path)
    series.append(moment(3.0))
    series.close()
    assert [each.at for each in read(path)] == [3.0]


@pytest.mark.parametrize(
    "line",
    [
        b'{"at":1,"seconds":0,"session":"a"}',
        b'{"at":1,"seconds":-1,"session":"a"}',
        b'{"at":1e308,"seconds":1e308,"session":"a"}',
        b'{"at":1,"seconds":0.1,"session":"a","providers":{"x":{"state":"of a later version"}}}',
        b'{"at":1,"seconds":0.1,"session":"a","spread":{"latency_ms":{"-99":-1}},"later":1}',
        b'{"at":1,"seconds":0.1,"session":"a","spread":{"latency_ms":{"99999999999999999999":1}}}',
    ],
)
def test_what_another_hand_wrote_is_joined_or_passed_over(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "series.jsonl"
    path.write_bytes(b"\n".join([line] * 3))
    series = Series(path)
    series.append(moment(3000.0))
    series.close()
    assert read(path)[-1].at == 3000.0


def test_what_was_never_measured_is_passed_over_and_what_may_be_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "series.jsonl"
    lines: list[dict[str, Any]] = [
        {},
        *({"at": at} for at in (-1.0, 1e18, 1e300)),
        *({"seconds": seconds} for seconds in (1e11, 1e300)),
        *({"rows": rows} for rows in (2**62, -(2**62))),
        *({name: 1e308} for name in ("usd", "cpu", "in_flight", "lag_ms", "rss_mb")),
        {"faults": {"timeout": 2**62}},
        {"usd_by": {"mini": 1e308}},
        {"providers": {"main": {"requests_per_s": 1e308}}},
        *({"spread": {"latency_ms": {bucket: 1}}} for bucket in ("-1", "976", "1000000000", "9" * 20)),
        {"spread": {"latency_ms": {"975": 10**9}}, "usd": -0.5, "rows": -3},
    ]
    told = [{"at": 7.0 + place, "seconds": 1.0, "session": "a", **line} for place, line in enumerate(lines)]
    path.write_text("".join(json.dumps(line) + "\n" for line in told))
    kept = read(path)
    assert [each.at for each in kept] == [7.0, told[-1]["at"]]
    assert quantile(kept[1].spread.latency_ms, 0.5) == pytest.approx(2**64, rel=0.04)


def test_a_clock_that_was_set_back_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "series.jsonl"
    series = Series(path)
    for at in (*range(100_000, 102_500), *range(50_000, 52_500)):
        series.append(moment(float(at)))
    series.close()
    kept = read(path)
    assert sum(each.rows for each in kept) == 5_000
    assert kept[-1].at == 52_499.0


def test_a_file_that_is_too_large_to_be_ours_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "series.jsonl"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole
    with pytest.raises(OSError, match="too large"):
        Series(path).append(moment(1.0))


def test_what_is_long_ago_is_joined_and_the_file_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "series.jsonl"
    series = Series(path)
    for at in range(20_000):
        series.append(moment(float(at)))
    series.close()
    kept = read(path)
    assert sum(each.rows for each in kept) == 20_000
    assert len(kept) < 4_000
    assert list(tmp_path.iterdir()) == [path]


def test_where_it_cannot_be_written_that_is_said_and_it_goes_on_later(tmp_path: Path) -> None:
    path = tmp_path / "series.jsonl"
    path.mkdir()
    series = Series(path)
    with pytest.raises(OSError, match="directory"):
        series.append(moment(1.0))
    path.rmdir()
    series.append(moment(2.0))
    series.close()
    assert [each.at for each in read(path)] == [2.0]
