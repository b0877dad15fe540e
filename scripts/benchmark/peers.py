"""Other tools of the field: what is installed for each, in an environment of its own, and how many rows it gets.

Their programs are in `peer_ways`. Ranges and not versions: what is measured is the tool as it is today, and the table
says which version that was.
"""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from scripts.benchmark.server import NotInstalledError

PROGRAM = "scripts.benchmark.peer_ways"
INSTALL_S = 900.0  # the largest is 900 MB


class Peer(NamedTuple):
    """One tool."""

    title: str
    environment: str  # tools with the same requirements share one
    requirements: tuple[str, ...]  # the first one is the tool, whose version is told
    rows: int  # so few that it takes seconds

    def python(self, place: Path) -> Path:
        """Return the Python of its environment."""
        return place / self.environment / "bin" / "python"

    def _stamp(self, place: Path) -> Path:
        return place / self.environment / "installed"

    def check(self, place: Path) -> None:
        """Raise `NotInstalledError` unless all that it asks for is installed."""
        stamp = self._stamp(place)
        if not stamp.exists() or stamp.read_text().splitlines() != list(self.requirements):
            raise NotInstalledError(f"{self.requirements[0]} is not installed: scripts/bench --install-peers")

    def install(self, place: Path) -> None:
        """Make its environment, anew where something else was installed there."""
        folder = place / self.environment
        commands = (
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [str(self.python(place)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"],
        )
        commands[1].extend(("--prefer-binary", *self.requirements))
        for command in commands:
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
            except subprocess.TimeoutExpired:
                raise NotInstalledError(f"{self.requirements[0]}: not installed within {INSTALL_S:g} s") from None
            if done.returncode:
                last = (done.stderr.strip() or "it wrote nothing").splitlines()[-1]
                raise NotInstalledError(f"{self.requirements[0]} cannot be installed: {last}")
        self._stamp(place).write_text("\n".join(self.requirements))

    def version(self, place: Path) -> str:
        """Return which version of the tool is installed."""
        name = self.requirements[0].partition("[")[0].partition(">")[0]
        code = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
        done = subprocess.run(
            [str(self.python(place)), "-c", code, name], capture_output=True, text=True, timeout=60, check=True
        )
        return f"{name} {done.stdout.strip()}"


_LITELLM = ("litellm>=1.80,<2",)

PEERS = {
    "litellm": Peer("litellm, acompletion and gather", "litellm", _LITELLM, 1_000),
    "litellm-batch": Peer("litellm, batch_completion", "litellm", _LITELLM, 1_000),
    "curator": Peer("curator", "curator", ("bespokelabs-curator>=0.1.27,<1",), 6_000),
    "ray": Peer("Ray Data, HTTP processor", "ray", ("ray[data]>=2.50,<3", "aiohttp>=3.13", "pydantic>=2.11"), 16_000),
    "daft": Peer("Daft, prompt", "daft", ("daft[openai]>=0.7,<1",), 3_000),
    # its extra "inference" has vLLM, which an endpoint does not need
    "datatrove": Peer(
        "datatrove, InferenceRunner",
        "datatrove",
        ("datatrove[io]>=0.9,<1", "httpx>=0.27", "aiosqlite>=0.20", "aiofiles>=24"),
        3_000,
    ),
}
