"""What this process has held of the machine's memory."""

import resource
from pathlib import Path


def peak_rss() -> int:
    """Return the highest resident memory of this process so far, in bytes.

    From the kernel's high-water mark of this very program: what getrusage says includes the memory of whatever process
    started it.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError, ValueError):  # no Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
