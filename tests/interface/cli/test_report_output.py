"""A page goes where it was told to, and costs nobody a file."""

import os
from pathlib import Path

import pytest

from rowmill.core.errors import ConfigError
from rowmill.interface.cli.report_command import written
from rowmill.interface.ui.report_page import page

MADE = page(b"{}")


@pytest.mark.parametrize(
    "there",
    [
        b'{"id": 1}\n',  # rows, or answers that were paid for
        b'[input]\npath = "in.jsonl"\n',
        b"id,text\n",
        b"PAR1",
        b"\0" * 200,
        b"<html>",  # of somebody who writes none like ours
        b"\n",
    ],
)
def test_what_is_no_page_is_not_written_over(tmp_path: Path, there: bytes) -> None:
    target = tmp_path / "in.jsonl"
    target.write_bytes(there)
    other = tmp_path / "link.html"
    other.symlink_to(target)
    for each in (target, other):
        with pytest.raises(ConfigError) as refused:
            written(each, MADE, "--html")
        assert str(refused.value) == f"{each} is no page, and is not written over: name another file by --html"
    assert target.read_bytes() == there


@pytest.mark.parametrize("there", [None, b"", b"<!DOCTYPE HTML>\n<p>", MADE])
def test_a_page_takes_the_place_of_one_and_of_nothing(tmp_path: Path, there: bytes | None) -> None:
    target = tmp_path / "report.html"
    if there is not None:
        target.write_bytes(there)
    written(target, MADE, "--output")
    assert target.read_bytes() == MADE
    written(Path(os.devnull), MADE, "--output")
