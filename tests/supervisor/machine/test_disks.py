"""Which file systems a run writes to, and what is to stay free on them."""

from pathlib import Path

import pytest

from rowmill.supervisor.machine.disks import file_systems, least_free, size_text
from rowmill.supervisor.machine.readings import Disk

MB = 1_000_000
GB = 1000 * MB


def test_paths_of_one_file_system_are_looked_at_once_and_silent_ones_not_at_all() -> None:
    found = {
        Path("out.jsonl.run"): Disk(1, GB, MB),
        Path("errors.jsonl"): Disk(1, GB, MB),
        Path("/nfs/o"): Disk(2, 9, 5),
    }
    systems = file_systems([*found, Path("silent")], found.get)
    assert [system.paths for system in systems] == [
        (Path("out.jsonl.run"), Path("errors.jsonl")),
        (Path("/nfs/o"),),
    ]
    assert [system.label for system in systems] == ["disk of out.jsonl.run", "disk of o"]


@pytest.mark.parametrize(("path", "label"), [("", "disk of here"), ("/", "disk of /")])
def test_a_file_system_always_has_a_name(
    path: str, label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (system,) = file_systems([Path(path)], lambda _: Disk(1, GB, MB))
    assert system.label == label


@pytest.mark.parametrize(
    ("setting", "total", "floor"),
    [
        ("auto", 264 * GB, 256 * MB),
        ("auto", 5 * GB, 100 * MB),
        ("auto", 999 * MB, 0),  # what is on its way to a disk could be more than a fiftieth
        ("auto", 300_000, 0),  # filled up by a run that then ends cleanly: test_disk_full
        (0, 264 * GB, 0),
        (1, 4 * MB, MB),
        (5000, 264 * GB, 5 * GB),
    ],
)
def test_what_is_to_stay_free(setting: int | str, total: int, floor: int) -> None:
    assert least_free(setting, total) == floor  # type: ignore[arg-type]  # a parameter of both kinds


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 kB"),
        (812_345, "812 kB"),
        (120 * MB, "120 MB"),
        (1.4 * MB, "1 MB"),
        (5.23 * GB, "5.2 GB"),
        (83 * GB, "83 GB"),
        (2e12, "2.0 TB"),
    ],
)
def test_sizes_as_people_read_them(count: float, text: str) -> None:
    assert size_text(count) == text
