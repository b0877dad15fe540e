"""What a server says, as it may be shown and kept: without the run's secrets and control characters, and clipped."""

from collections.abc import Iterable

from rowmill.core.plain_text import clipped, stripped
from rowmill.transport import faults


def cleaned(text: str, secrets: Iterable[str]) -> str:
    """Return a text of a server in one line of at most a KiB, with none of the secrets in it."""
    # In this order: a key with a mark of no width in it is the key, and a cut must not go through one.
    return clipped(faults.redacted(stripped(text).strip(), secrets))
