"""Ports for servers that are started: each is nobody else's before they listen, and once they have ended."""

import socket


def kept_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody is given by chance before this process ends; who is told it may listen there.

    One that was only looked for, and let go, is given to whoever asks next, as long as the server is not there yet.
    host: "" for all addresses of IPv4.
    """
    with socket.socket() as kept:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):  # a server sets the one or the other
            kept.setsockopt(socket.SOL_SOCKET, option, 1)
        kept.bind((host, 0))
        port: int = kept.getsockname()[1]
        kept.detach()  # it stays open, and never listens
    return port
