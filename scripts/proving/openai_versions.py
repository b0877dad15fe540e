"""What the engine works out in the place of the openai package, against several versions of it.

The suite holds it equal to what the installed version sends. Whoever installs Rowmill may get any version that
`pyproject.toml` allows, and is to get what that one sends: the suite's own tests of it, run by the oldest, a middle one
and the newest.
"""

import os
import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from scripts.proving.runs import ItemError, check
from scripts.proving.strangers import python_program

ROOT = Path(__file__).parents[2]
TESTS = ("tests/transport/test_request_head.py", "tests/transport/test_openai_client.py")
LONGEST_S = 900
SHOWN = 30  # lines of a failing run


def openai_versions(folder: Path) -> bool:
    """Run the tests with each of them, installed below data/ in an environment of its own."""
    allowed = sorted(filter(_allowed().specifier.contains, _published()))
    if not allowed:
        raise ItemError("no version of the openai package that pyproject.toml allows can be had here")
    print(f"  {len(allowed)} versions are allowed, {allowed[0]} to {allowed[-1]}")
    holds = True
    for version in dict.fromkeys((allowed[0], allowed[len(allowed) // 2], allowed[-1])):
        holds &= _tested(version, folder)
    return holds


def _allowed() -> Requirement:
    """Return the dependency as pyproject.toml has it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return next(each for each in map(Requirement, project["dependencies"]) if each.name == "openai")


def _published() -> list[Version]:
    command = [_pip(), "index", "versions", "openai"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST_S)
    found = re.search(r"^Available versions: (.+)$", done.stdout, re.MULTILINE)
    if found is None:
        raise ItemError(f"pip does not say which versions there are: {(done.stderr.strip() or 'no word')[-300:]}")
    return [Version(each) for each in found[1].split(", ")]


def _pip() -> str:
    return str(Path(sysconfig.get_path("scripts")) / "pip")


def _tested(version: Version, folder: Path) -> bool:
    name = f"openai-{version}"
    python = python_program(name, "python", f"openai=={version}")
    # All else comes from the environment that this runs in; what the package has brought itself stands before it.
    place = sysconfig.get_path("purelib", vars={"base": str(python.parents[1]), "platbase": str(python.parents[1])})
    (Path(place) / "zz-rowmill.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT / 'engine'}\n")
    said = _output(python, "-c", "import openai, httpx2; print(openai.__version__, httpx2.__version__)")
    if said.split()[:1] != [str(version)]:
        raise ItemError(f"{name} is not what is imported there: {said[-300:]}")
    results = folder / f"{name}.txt"
    done = subprocess.run(
        [python, "-m", "pytest", "--tb=short", "-p", "no:cacheprovider", *TESTS],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=results.open("wb"),
        stderr=subprocess.STDOUT,
        check=False,
        timeout=LONGEST_S,
    )
    lines = results.read_text().splitlines()
    if done.returncode:
        print("\n".join(f"    {line}" for line in lines[-SHOWN:]))
    return check(
        f"openai {version}",
        done.returncode == 0,
        f"with httpx2 {said.split()[1]}: {lines[-1] if lines else 'no word'}",
    )


def _output(python: Path, *words: str) -> str:
    done = subprocess.run([python, *words], capture_output=True, text=True, check=False, timeout=LONGEST_S)
    return done.stdout.strip() or done.stderr.strip()
