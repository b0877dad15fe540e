"""Who may read what a run keeps, and what a planted link or a row's own path can do."""

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import rowmill
from tests.end_to_end.batching import batches
from tests.end_to_end.conftest import Done, Place, Started, Witness, until

Simulate = Callable[..., Witness]


@pytest.fixture
def open_umask() -> Iterator[None]:
    """Everything that a program makes without a word is for all to read and write."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """Return the mode of everything in a directory, itself included."""
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in (folder, *folder.rglob("*"))}


def assert_private(folder: Path, directory: int = 0o700) -> None:
    assert {
        name: oct(mode)
        for name, mode in modes(folder).items()
        if mode != (directory if (folder / name).is_dir() else directory & 0o666)
    } == {}


def refused(done: Done, *words: str) -> None:
    """Hold that the command has ended with one line of these words, and no traceback."""
    assert done.code not in (0, 1, 70), done.err
    assert "Traceback" not in done.err
    assert any(all(word in line for word in words) for line in done.lines), done.err


@pytest.mark.usefixtures("open_umask")
def test_what_a_live_run_keeps_is_private_whatever_the_umask(place: Place, simulator: Simulate) -> None:
    place.configure("of each its own")
    place.input = place.folder / "in.csv"
    place.write_lines([b"id,text\n", *(b"%d,row %06d %s\n" % (index, index, b"x" * 600) for index in range(150))])
    modes_ = {"0700": 0o700, "0750": 0o750, "2770": 0o2770}
    witnesses = {mode: simulator(latency_ms=5) for mode in modes_}
    for witness in witnesses.values():
        witness.hold(20)

    def start(mode: str) -> Started:
        own = ["checkpoint.dir=%s.run", "output.path=%s.jsonl", "cache.dir=%s.kept"]
        words = [*(each % mode for each in own), "input.path=in.csv", f'checkpoint.mode="{mode}"', "cache.use=disk"]
        words.append(f"provider.base_url={witnesses[mode].url}")
        return place.start(*(f"--set={word}" for word in words), "--set=workers.count=1")

    started = {mode: start(mode) for mode in modes_}
    found = {}
    for mode in modes_:
        place.run_dir = place.folder / f"{mode}.run"
        until(place.recorded, "a row")
        found[mode] = modes(place.run_dir)
        started[mode].kill_all()
        witnesses[mode].go_on()
    for mode, directory in modes_.items():
        run_dir, names = place.folder / f"{mode}.run", found[mode]
        assert {"boards/000000.board", "claims/session", "spool/000000.jsonl", "run.log", "plan", "lock"} <= set(names)
        assert_private(run_dir, directory)
        assert_private(place.folder / f"{mode}.kept")
        assert stat.S_IMODE((place.folder / f".{mode}.jsonl.rowmill-part").stat().st_mode) == 0o666
    started = {mode: start(mode) for mode in modes_}
    for mode, directory in modes_.items():
        done = started[mode].wait()
        assert done.code == 0, done.err
        assert "report.json" in modes(place.folder / f"{mode}.run")
        assert_private(place.folder / f"{mode}.run", directory)
        assert_private(place.folder / f"{mode}.kept")
        output = place.folder / f"{mode}.jsonl"
        assert stat.S_IMODE(output.stat().st_mode) == 0o666  # the user's own, as any program makes it
        assert "others can look into" not in done.err


@pytest.mark.usefixtures("open_umask")
def test_what_a_run_by_batches_keeps_is_private_and_so_is_the_embedded_simulators_state(place: Place) -> None:
    place.configure("simulator")
    place.write_rows(40)
    done = place.run(*batches(), "--set=simulator.batch_s=0.3", "--set=retry.attempts=1")
    assert done.code == 0, done.err
    assert {"batches/journal", "simulator/lock", "simulator/default/files"} <= set(modes(place.run_dir))
    assert_private(place.run_dir)


@pytest.mark.usefixtures("open_umask")
def test_a_directory_that_others_can_look_into_is_left_so_and_said(place: Place, simulator: Simulate) -> None:
    place.configure(simulator().url)
    place.write_rows(5)
    place.run_dir.mkdir(mode=0o755)
    done = place.run()
    assert done.code == 0, done.err
    assert stat.S_IMODE(place.run_dir.stat().st_mode) == 0o755
    assert done.err.count("others can look into out.jsonl.run") == 1


def test_a_planted_link_is_never_written_through(place: Place, simulator: Simulate) -> None:
    place.configure(simulator().url)
    place.input = place.folder / "in.csv"
    place.write_lines([b"text\n", *(b"row %06d\n" % index for index in range(20))])
    victim = place.folder / "victim"
    victim.write_bytes(b"precious")
    for folder in ("boards", "sealed", "spool"):
        (place.run_dir / folder).mkdir(parents=True)
    csv = ("--set=input.path=in.csv", "--set=input.id=text")
    part = place.folder / ".out.jsonl.rowmill-part"
    part.symlink_to(victim)
    refused(place.run(*csv), ".out.jsonl.rowmill-part is no plain file: remove it")
    part.unlink()
    for name in ("boards/000000.board", "boards/000001.board", "sealed/.000000.sealed.tmp", "spool/000000.jsonl"):
        path = place.run_dir / name
        path.unlink(missing_ok=True)
        path.symlink_to(victim)
    log = place.run_dir / "run.log"
    log.unlink()
    log.symlink_to(victim)
    refused(place.run(*csv), "run.log", "link")
    log.unlink()
    done = place.run(*csv)
    assert done.code == 0, done.err
    assert len(place.lines) == 20
    assert victim.read_bytes() == b"precious"


def test_an_output_that_is_a_link_on_purpose_stays_one(place: Place, simulator: Simulate) -> None:
    place.configure(simulator().url)
    place.write_rows(5)
    (place.folder / "elsewhere").mkdir()
    place.output.symlink_to("elsewhere/real.jsonl")
    done = place.run()
    assert done.code == 0, done.err
    assert place.output.is_symlink()
    assert len((place.folder / "elsewhere" / "real.jsonl").read_bytes().splitlines()) == 5


def test_rows_of_a_program_name_images_below_the_current_directory_or_the_one_that_is_said(
    place: Place, simulator: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.folder / "here").mkdir()
    for name in ("here/mine.png", "other.png"):
        (place.folder / name).write_bytes(b"\x89PNG\r\n\x1a\n a picture")
    monkeypatch.chdir(place.folder / "here")
    rows = [{"photo": name} for name in ("mine.png", "../other.png", str(place.folder / "other.png"))]
    how: dict[str, Any] = {"prompt": "What is it?", "model": "m", "base_url": simulator().url, "images": ["photo"]}
    by_default = rowmill.map(rows, **how)
    assert [result.error is None for result in by_default] == [True, False, False]
    assert "lies outside of" in str(by_default[1].error)
    assert "images_dir" in str(by_default[1].error)
    said = rowmill.map(rows, **how, images_dir=place.folder)
    assert [result.error for result in said] == [None] * 3


def test_rows_name_no_file_outside_of_the_directory_with_the_images(place: Place, simulator: Simulate) -> None:
    secret = b"\x89PNG\r\n\x1a\n the secret of this machine"
    outside = place.folder / "outside"
    place.input = place.folder / "data" / "in.jsonl"
    for folder in (outside, place.folder / "data"):
        folder.mkdir()
    (outside / "secret.png").write_bytes(secret)
    (place.folder / "data" / "mine.png").write_bytes(secret.replace(b"secret", b"picture"))
    (place.folder / "data" / "link.png").symlink_to(outside / "secret.png")
    os.mkfifo(place.folder / "data" / "pipe")
    (place.folder / "data" / "huge.png").touch()
    os.truncate(place.folder / "data" / "huge.png", 1 << 40)
    bad = {
        "../outside/secret.png": "lies outside of data",
        str(outside / "secret.png"): "lies outside of data",
        (outside / "secret.png").as_uri(): "lies outside of data",
        "link.png": "lies outside of data",
        "/proc/self/environ": "lies outside of data",
        "/dev/zero": "lies outside of data",
        "pipe": "is no file",
        "huge.png": "an image may have",
        "none.png": "No such file",
        "ftp://h/a.png": "neither an http(s)",
    }
    names = ["mine.png", *bad]
    place.write_lines(
        json.dumps({"id": name, "text": f"row {index:06d}", "photo": name}).encode() + b"\n"
        for index, name in enumerate(names)
    )
    place.configure(simulator().url)
    arguments = ["--set=input.path=data/in.jsonl", '--set=task.images=["photo"]', "--set=workers.count=1"]
    started = [
        place.start(*arguments),
        place.start(*arguments, "--set=input.images_dir=outside", "--set=output.path=other.jsonl"),
    ]
    for each in started:
        done = each.wait()
        assert done.code == 1, done.err
    assert [line["id"] for line in place.lines if line.get("error") is None] == ["mine.png"]
    told = {row["id"]: row["message"] for row in place.failed}
    assert list(told) == list(bad)
    for name, words in bad.items():
        assert words in told[name]
    lines = map(json.loads, (place.folder / "other.jsonl").read_bytes().splitlines())
    assert {line["id"] for line in lines if line.get("error") is None} == {
        "../outside/secret.png",
        str(outside / "secret.png"),
        (outside / "secret.png").as_uri(),
    }
