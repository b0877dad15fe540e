"""Servers that others wrote: how each is installed below data/, started, and ended."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

HOME = Path(__file__).parents[2] / "data" / "servers"  # kept: installing them takes minutes
INSTALLING_S = 900
STARTING_S = 120


class MissingServerError(Exception):
    """A server cannot be installed here, or is not. The text says which and why."""


def python_program(name: str, program: str, *packages: str) -> Path:
    """Return the program of Python packages, in an environment of their own that is made where there is none."""
    home = HOME / name
    made = home / "made"
    if not made.exists():
        _install([sys.executable, "-m", "venv", "--clear", str(home)], name)
        for package in packages:
            _install([str(home / "bin" / "pip"), "install", "--quiet", package], name)
        made.touch()
    return home / "bin" / program


def node_program(name: str, program: str, package: str) -> Path:
    """Return the program of a package of Node.js's, installed where it is not."""
    npm = system_program("npm", "Node.js and npm")
    home = HOME / name
    found = home / "node_modules" / ".bin" / program
    if not found.exists():
        home.mkdir(parents=True, exist_ok=True)
        (home / "package.json").write_text('{"private": true}\n')
        _install([str(npm), "install", "--silent", "--prefix", str(home), package], name)
    return found


def system_program(name: str, package: str) -> Path:
    """Return a program of the system's."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"]))
    if found is None:
        raise MissingServerError(f"{name} is not installed here; install {package} and run this again")
    return Path(found)


def _install(command: Sequence[str], name: str) -> None:
    print(f"  installing {name} ...", flush=True)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALLING_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingServerError(f"{name} cannot be installed: {error}") from None
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no word of why").splitlines()[-1]
        raise MissingServerError(f"{name} cannot be installed: {last}")


@contextlib.contextmanager
def serving(
    command: Sequence[str | Path], log: Path, probe: str, environment: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a server until the block ends, from the moment on that the URL `probe` is answered, whatever it answers."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            env={**os.environ, **(environment or {})},
            process_group=0,
        )
    try:
        _wait(process, log, probe)
        yield process
    finally:
        end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a server and what it has started."""
    for signal in (15, 9):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
            return


def _wait(process: "subprocess.Popen[bytes]", log: Path, probe: str) -> None:
    ends = time.monotonic() + STARTING_S
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while process.poll() is None and time.monotonic() < ends:
        try:
            direct.open(probe, timeout=5).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise MissingServerError(f"it does not start:\n{log.read_text(errors='replace')[-2000:]}")
