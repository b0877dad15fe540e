"""An observer of a run for tests."""

from collections.abc import Callable

from rowmill.core.reports import Snapshot


class Watcher:
    """Sees what a person would see, and may act on it, once."""

    def __init__(self, act: Callable[[Snapshot], bool] | None = None) -> None:
        """`act` is called with every snapshot until it says that it has acted."""
        self.snapshots: list[Snapshot] = []
        self.lines: list[str] = []
        self._act = act

    def show(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)
        if self._act is not None and self._act(snapshot):
            self._act = None

    def log(self, line: str) -> None:
        self.lines.append(line)

    def told(self, text: str) -> list[str]:
        return [line for line in self.lines if text in line]
