"""A port that is kept is its server's from the first moment on, and again after each end."""

import socket

import pytest

from scripts.ports import kept_port


@pytest.mark.parametrize("option", [socket.SO_REUSEADDR, socket.SO_REUSEPORT])
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", ""])
def test_who_is_told_a_kept_port_may_listen_there_again_and_again_and_nobody_else_has_it(
    host: str, option: int
) -> None:
    port = kept_port(host)
    for _ in range(2):
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((host, port))
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, option, 1)
            server.bind((host, port))
            server.listen()
            with socket.create_connection((host or "127.0.0.3", port)) as asking, server.accept()[0] as asked:
                asked.sendall(b"!")
                assert asking.recv(1) == b"!"


def test_where_nobody_listens_a_kept_port_refuses() -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", kept_port()))
