"""Who wins is read out of what every judge has recorded, whatever became of the row behind it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rowmill.core.config import Config
from rowmill.core.reports import from_json, to_json
from rowmill.core.rows import NO_LINE
from rowmill.core.win_rates import wilson
from rowmill.runs.judged import are_told, win_rates
from rowmill.runs.report.made import run_document
from rowmill.store import manifest as manifests
from rowmill.store.recovery import group_record, header_record
from rowmill.store.run_directory import RunDirectory
from tests.runs.report.written import configured, line_of, record_of, write_run


def config_of(folder: Path, **judges: Sequence[str]) -> Config:
    steps: list[dict[str, Any]] = [{"name": name, "prompt": "{text}"} for name in ("old", "new")]
    steps += [{"name": name, "prompt": "{old} or {new}?", "compares": list(two)} for name, two in judges.items()]
    return configured(folder, step=steps)


def says(index: int, word: str) -> bytes:
    return line_of(index, {"why": "so", "winner": word})


def failed(index: int, step: str, fault: str) -> bytes:
    return line_of(index, fault=fault).replace(b'"message"', b'"step":"%b","message"' % step.encode())


def write_step(directory: RunDirectory, name: str, lines: Sequence[bytes]) -> None:
    (shard,) = manifests.load_plan(directory.plan) or []
    directory.make_step(name)
    header = header_record(shard)
    body = b"".join([header, group_record(0, len(header)), *(record_of(row, line) for row, line in enumerate(lines))])
    directory.of_step(name).checkpoint_path(shard).write_bytes(body + group_record(1, len(body)))


def test_verdicts_are_read_where_each_judge_has_them(tmp_path: Path) -> None:
    config = config_of(tmp_path, judge=("old", "new"), swapped=("new", "old"))
    assert win_rates(config, RunDirectory(config.run_dir)) == (), "there is no run yet"
    judge = [
        says(0, "first"),
        says(1, "first"),
        failed(2, "judge", "invalid_output"),
        failed(3, "judge", "timeout"),
        failed(4, "old", "invalid_output"),
        says(5, "first"),  # its condition has left the row out, and nobody asked in the other order
        says(6, "second").replace(b"so", b"\xff"),
        line_of(7, "tie"),
        says(8, "who knows"),
    ]
    swapped = [
        says(0, "second"),
        says(1, "first"),
        *judge[2:5],  # as the step before handed them on
        NO_LINE,
        says(6, "first"),
        line_of(7, "Tie."),
        says(8, "first"),
    ]
    directory = write_run(config, swapped)
    write_step(directory, "judge", judge)
    (found,) = win_rates(config, directory)
    assert (found.between, found.judges) == (("old", "new"), ("judge", "swapped"))
    assert (found.rows, found.unreadable, found.incomplete) == (4, 2, 2)
    assert (found.wins, found.ties) == ((wilson(1, 4), wilson(1, 4)), wilson(2, 4))
    assert found.in_both_orders == (1, 0)


def test_each_two_are_counted_by_themselves(tmp_path: Path) -> None:
    config = config_of(tmp_path, one=("old", "new"), other=("text", "old"))
    directory = write_run(config, [says(0, "second"), says(1, "second"), says(2, "first")])
    write_step(directory, "one", [says(0, "first"), says(1, "tie"), failed(2, "one", "server_error")])
    one, other = win_rates(config, directory)
    assert (one.between, one.judges, one.rows, one.incomplete) == (("old", "new"), ("one",), 2, 1)
    assert (other.between, other.judges, [each.rows for each in other.wins]) == (("text", "old"), ("other",), [1, 2])


def test_verdicts_that_are_gone_are_not_taken_for_none(tmp_path: Path) -> None:
    config = config_of(tmp_path, judge=("old", "new"), swapped=("new", "old"))
    directory = write_run(config, [says(0, "first")])
    with pytest.raises(FileNotFoundError):
        win_rates(config, directory)


def test_a_report_that_says_who_wins_is_left_as_it_is(tmp_path: Path) -> None:
    config = config_of(tmp_path, judge=("old", "new"))
    directory = write_run(config, [says(0, "first")])
    report = from_json(directory.report.read_bytes())
    assert not are_told(config, report)
    told = msgspec.structs.replace(report, win_rates=win_rates(config, directory))
    assert are_told(config, told)
    assert not are_told(config_of(tmp_path, judge=("new", "old")), told), "who is named first is another question"
    directory.report.write_bytes(to_json(told))
    assert from_json(directory.report.read_bytes()) == told
    assert run_document(directory.path, None, whole=True).win_rates == [*(told.win_rates or ())]
