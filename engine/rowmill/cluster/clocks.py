"""Whose clock is whose: CLOCK_MONOTONIC is one for all processes of a machine, and another on each machine."""

from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")  # another one after every start of a machine


def boot_of_machine() -> str:
    """Return what names this start of this machine; empty where nothing tells."""
    return _BOOT.read_text(encoding="ascii").strip() if _BOOT.exists() else ""
