"""What is asked of a server, and how many at a time: each load is a part of the table, measured by several ways."""

from typing import NamedTuple


class Load(NamedTuple):
    """Rows of one size against a server that answers in one way."""

    name: str
    title: str
    prompt_bytes: int = 400
    reply_bytes: int = 700
    in_flight: int = 128  # of each process that sends
    delay_ms: int = 0  # until a reply comes
    tls: bool = False
    # The smaller run of two has a tenth in flight, so that the difference of both tells what a request in flight takes.
    grows: bool = False
    watched: bool = False  # the memory of the processes is looked at, which takes a little time of the server's core

    def smaller(self) -> "Load":
        """Return the load of the smaller run."""
        return self._replace(in_flight=self.in_flight // 10) if self.grows else self


PLAIN = Load("plain", "prompts of 400 bytes, replies of 700, 128 in flight")
TLS = Load("tls", "the same through TLS", tls=True)
LARGE = Load("large", "prompts of 4 KB, replies of 2 KB, 128 in flight", prompt_bytes=4096, reply_bytes=2048)
SLOW = Load("slow", "replies after 1,000 ms, 4,000 in flight", in_flight=4_000, delay_ms=1_000, watched=True)
WORKERS = Load("workers", "as plain, by one worker and by 64 of them on the same core", watched=True)
MEMORY = Load(
    "memory", "replies after 1,000 ms, 10,000 in flight", in_flight=10_000, delay_ms=1_000, grows=True, watched=True
)
PEERS = Load("peers", "as plain, by tools of the same field")

LOADS = (PLAIN, TLS, LARGE, SLOW, WORKERS, MEMORY, PEERS)
