"""What is given away: the source distribution, and the wheel that is built from it.

The build backend of the development environment builds both, so nothing is fetched. How large a plain installation is
is seen by what of the development environment belongs to it.
"""

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable
from email import message_from_string
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rowmill.core.version import __version__

ROOT = Path(__file__).parents[1]
NAME = f"rowmill-{__version__}"
TREES = ("engine/rowmill", "docs", "scripts", "tests", ".ci")
FILES = ("CHANGELOG.md", "LICENSE", "MANIFEST.in", "README.md", "config.toml", "constraints.txt", "pyproject.toml")
# What lies about in a checkout at work and is not given away
STRAY = ("data/in.jsonl", "notes.txt", "scripts/__pycache__/corpus.pyc", "engine/mine/__init__.py", "engine/mine.py")
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, f'build_{sys.argv[1]}')(sys.argv[2])"


class Built(NamedTuple):
    """Both distributions."""

    source: dict[str, bytes]
    programs: set[str]  # of the source, what can be started
    wheel: Path  # unpacked


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build from a copy: what a build leaves behind is not for the checkout, where other tests look."""
    folder = tmp_path_factory.mktemp("built")
    checkout, unpacked, wheel = folder / "checkout", folder / NAME, folder / "wheel"
    for name in TREES:
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, checkout / name)
    for name in STRAY:
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_text("")
    build("sdist", checkout, folder)
    with tarfile.open(folder / f"{NAME}.tar.gz") as file:
        if hasattr(tarfile, "data_filter"):  # not in the earliest 3.11
            file.extraction_filter = tarfile.data_filter
        file.extractall(folder)  # our own archive
    source = files(unpacked)
    build("wheel", unpacked, folder)  # from what was just built: what that lacks is lacking here
    with zipfile.ZipFile(folder / f"{NAME}-py3-none-any.whl") as file:
        file.extractall(wheel)
    return Built(source, {path for path in source if (unpacked / path).stat().st_mode & 0o111}, wheel)


def build(kind: str, place: Path, out: Path) -> None:
    """Build a distribution of what lies in a place, as pip does, into `out`."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD, kind, out], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def files(folder: Path) -> dict[str, bytes]:
    """Read every file of a tree: contents by path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def ours(tree: str) -> dict[str, bytes]:
    """Read every file of one of the checkout's trees, but those that Python has compiled."""
    return {f"{tree}/{path}": data for path, data in files(ROOT / tree).items() if "__pycache__" not in path}


def test_the_source_distribution_holds_what_checks_tests_and_proves_the_package(built: Built) -> None:
    expected = {name: (ROOT / name).read_bytes() for name in FILES}
    for tree in TREES:
        expected |= ours(tree)
    made = {"PKG-INFO", "setup.cfg"}  # by the build
    held = {path: data for path, data in built.source.items() if path not in made and ".egg-info/" not in path}
    assert held == expected
    assert "scripts/proving/__main__.py" in expected
    assert {"scripts/setup", "scripts/check", "scripts/test", ".ci/run"} <= built.programs


def test_the_wheel_holds_the_package_with_its_types_and_recipes_and_nothing_beside_it(built: Built) -> None:
    about = f"{NAME}.dist-info"
    assert {path.name for path in built.wheel.iterdir()} == {"rowmill", about}
    package = {path.removeprefix("engine/rowmill/"): data for path, data in ours("engine/rowmill").items()}
    assert files(built.wheel / "rowmill") == package
    assert {"py.typed", "interface/cli/recipes/labelling/tickets.csv"} <= set(package)
    assert (built.wheel / about / "licenses" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (built.wheel / about / "entry_points.txt").read_text().split() == [
        "[console_scripts]",
        "rowmill",
        "=",
        "rowmill.interface.cli:main",
    ]


def test_what_is_installed_is_found_as_rowmill_and_not_as_engine(built: Built) -> None:
    assert PathFinder.find_spec("rowmill", [str(built.wheel)]) is not None
    assert PathFinder.find_spec("engine", [str(built.wheel)]) is None


def test_the_wheel_says_what_it_is(built: Built) -> None:
    told = message_from_string((built.wheel / f"{NAME}.dist-info" / "METADATA").read_text(encoding="utf-8"))
    assert (told["Name"], told["Version"]) == ("rowmill", __version__)
    assert (told["Author"], told["Author-email"]) == ("Rowmill contributors", None)
    assert (told["License-Expression"], told["License-File"]) == ("MIT", "LICENSE")
    assert told["Requires-Python"] == ">=3.11"
    assert told["Keywords"]
    assert told.get_payload() == (ROOT / "README.md").read_text(encoding="utf-8")
    classifiers = set(told.get_all("Classifier", []))
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)} <= classifiers
    assert "Typing :: Typed" in classifiers
    assert any(each.startswith("Topic :: ") for each in classifiers)
    assert not any(each.startswith("License :: ") for each in classifiers), "the licence expression takes their place"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(told.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])
    needed = [each for each in told.get_all("Requires-Dist", []) if "extra ==" not in each]
    assert len(needed) == len(project["dependencies"])


COMPILED = 1.07  # bytes of a compiled module for one of its source: as it was over all that is installed
BLOCK = 4096  # bytes that a disk gives away at a time
PLAIN_MB = 120  # of a plain installation by `du -m`, with all that pip compiles


def needed_by(name: str, extras: frozenset[str] = frozenset()) -> dict[str, Distribution]:
    """Return a distribution with all that an installation of it brings, by name."""
    found: dict[str, Distribution] = {canonicalize_name(name): distribution(name)}
    for line in distribution(name).requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": each}) for each in ("", *extras)):
            found |= needed_by(requirement.name, frozenset(requirement.extras))
    return found


def blocks(size: int) -> int:
    """Return the bytes that a file of so many takes."""
    return -(-size // BLOCK) * BLOCK


def on_disk(paths: Iterable[Path]) -> int:
    """Return the bytes that files and the directories that hold them take; each module is also there compiled."""
    plain = [path for path in paths if path.suffix != ".pyc"]
    modules = [path.stat().st_size for path in plain if path.suffix == ".py"]
    folders = {path.parent for path in plain}
    with_modules = {path.parent for path in plain if path.suffix == ".py"}
    files = sum(blocks(path.stat().st_size) for path in plain) + sum(blocks(int(COMPILED * size)) for size in modules)
    return files + (len(folders) + len(with_modules)) * BLOCK


def test_a_plain_installation_is_small() -> None:
    """What is large and not for everybody is an extra."""
    needed = needed_by("rowmill")
    del needed["rowmill"]  # here it is a link to the checkout
    taken = {
        name: on_disk(path for file in each.files or () if (path := Path(str(file.locate()))).is_file())
        for name, each in needed.items()
    }
    taken["rowmill"] = on_disk(path for path in (ROOT / "engine" / "rowmill").rglob("*") if path.is_file())
    largest = sorted(((size >> 10, name) for name, size in taken.items()), reverse=True)
    assert "openai" in taken
    assert "aiohttp" not in taken
    assert sum(taken.values()) >> 20 < PLAIN_MB, largest
