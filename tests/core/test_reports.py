"""Where a report lies, it is read; where none can be, nobody is stopped by that."""

from pathlib import Path

import pytest

from rowmill.core.counts import Totals
from rowmill.core.reports import RunReport, report_at, to_json

REPORT = RunReport(
    run="r",
    finished=True,
    input="in",
    output="out",
    errors=None,
    rows=1,
    totals=Totals(rows=1),
    failures={},
    sessions=[],
)


def test_a_report_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(to_json(REPORT))
    assert report_at(tmp_path / "report.json") == REPORT


@pytest.mark.parametrize("data", [b"", b"\0" * 99, b"\xff", b"[" * 100_000, b"{}", to_json(REPORT)[:-9]])
def test_what_is_none_stops_nobody(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "report.json").write_bytes(data)
    assert report_at(tmp_path / "report.json") is None
    assert report_at(tmp_path) is None
    assert report_at(tmp_path / "missing.json") is None
