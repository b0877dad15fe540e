"""Where workers run: on this machine, or on those of a cluster. The supervisor treats them alike."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from rowmill.core.reports import NodeFigures
from rowmill.core.rows import InputFile, InputPart
from rowmill.ipc import processes
from rowmill.store.run_directory import RunDirectory


class Host(Protocol):
    """A machine on which workers are started."""

    @property
    def name(self) -> str:
        """What people call it; empty for this one."""

    @property
    def where(self) -> str:
        """The name as it follows a worker's: " on 10.0.0.3"; empty for this machine."""

    @property
    def lost(self) -> bool:
        """Whether it is gone."""

    @property
    def leaving(self) -> bool:
        """Whether it is about to go: nothing more is started there."""

    def __hash__(self) -> int:
        """Tell it from others."""

    def start(self, module: str, name: str, incarnation: int) -> processes.Child:
        """Start a process, as `processes.start` does. `incarnation`: the worker's number in the session."""


class ThisMachine:
    """The one on which the supervisor runs."""

    name = where = ""
    lost = leaving = False

    def start(self, module: str, name: str, incarnation: int) -> processes.Child:  # noqa: ARG002 - of the protocol
        """Start a process here."""
        return processes.start(module, name)


HERE = ThisMachine()


class Joined:
    """A machine of the cluster has come; so many workers have room there."""

    def __init__(self, host: Host, workers: int) -> None:
        self.host = host
        self.workers = workers


class Leaving:
    """A machine of the cluster is about to go, in so many seconds: what is in flight there is to come home."""

    def __init__(self, host: Host, seconds: float) -> None:
        self.host = host
        self.seconds = seconds


class Cluster(Protocol):
    """The machines of a cluster, as they come and go.

    workers: that it has room for, as far as is known when a run begins.
    """

    workers: int

    def begin(
        self,
        put: Callable[[object], None],
        directory: RunDirectory,
        parts: Sequence[InputPart],
        origins: Sequence[Sequence[InputFile]],
    ) -> None:
        """Look for machines from now on; `put` takes what there is to be told: `Joined`, `Leaving`, `Crashed`, texts.

        origins: of each part, the objects on other machines whose bytes it has, which nodes may read themselves.
        What workers write is brought into the run directory.
        """

    def notices(self) -> tuple[str, ...]:
        """Return what is waited for, or goes wrong, as short lines."""

    def figures(self, rows: Mapping[Host, int]) -> list[NodeFigures]:
        """Return what the report says of the machines; `rows`: that came to an outcome on each."""

    def close(self) -> None:
        """Let go of all machines. No worker is left on them then."""
