"""Whoever shows a run to a person."""

from typing import Protocol

from engine.reports import Snapshot


class Observer(Protocol):
    """Is told how a run stands, and what happens."""

    def show(self, snapshot: Snapshot) -> None:
        """Show where the run stands."""

    def log(self, line: str) -> None:
        """Show one event."""
