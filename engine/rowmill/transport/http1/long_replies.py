"""Long replies are read a few at a time: a thousand at once would be in memory at once."""

from collections import deque
from typing import TYPE_CHECKING

from rowmill.transport.reply_size import LONG_REPLIES

if TYPE_CHECKING:
    from rowmill.transport.http1.connection import Connection


class LongReplies:
    """Lets so many connections go on reading; others wait for their turn, in order."""

    def __init__(self) -> None:
        self._read: set[Connection] = set()
        self._waiting: deque[Connection] = deque()

    def enter(self, connection: "Connection") -> None:
        """Read on, or wait."""
        if len(self._read) < LONG_REPLIES:
            self._read.add(connection)
        else:
            self._waiting.append(connection)
            connection.pause()

    def leave(self, connection: "Connection") -> None:
        """Hear that a reply is whole, or given up."""
        if connection in self._waiting:
            self._waiting.remove(connection)
        elif connection in self._read:
            self._read.remove(connection)
            if self._waiting:
                following = self._waiting.popleft()
                self._read.add(following)
                following.resume()
