"""The process that asks the openai package what the requests of a run look like. It is started, never imported."""

from rowmill.transport import lazy_types

lazy_types.load_lazily()

from multiprocessing.connection import Connection  # noqa: E402 - after the line above

import msgspec  # noqa: E402

from rowmill.core.wire import Endpoint  # noqa: E402
from rowmill.transport.endpoint import resolve  # noqa: E402


def main(pipe: Connection) -> int:
    """Resolve the endpoints of a run for the process at the other end, which sends `(endpoints, api)`.

    It gets back the endpoints in the same order, or a text that says which there is none for, and why.
    """
    try:
        endpoints, api = msgspec.msgpack.decode(pipe.recv_bytes(), type=tuple[list[Endpoint], str])
    except EOFError:
        return 1
    pipe.send_bytes(msgspec.msgpack.encode(_resolve_all(endpoints, api)))
    return 0


def _resolve_all(endpoints: list[Endpoint], api: str) -> list[Endpoint] | str:
    resolved = []
    for endpoint in endpoints:
        try:
            resolved.append(resolve(endpoint, api))
        except Exception as error:  # noqa: BLE001 - whatever the package does not like goes to the user as its words
            from rowmill.transport import faults

            words = faults.redacted(f"{type(error).__name__}: {error}", endpoint.secrets)
            return f"{endpoint.provider!r}: {words}"
    return resolved
