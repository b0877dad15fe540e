"""The process that asks the openai package what the requests of a run look like. It is started, never imported."""

from rowmill.transport import bare_package

bare_package.import_bare()

import importlib  # noqa: E402 - after the line above
from multiprocessing.connection import Connection  # noqa: E402

import msgspec  # noqa: E402

from rowmill.core.wire import Endpoint  # noqa: E402
from rowmill.transport import endpoint as package  # noqa: E402


def main(pipe: Connection) -> int:
    """Resolve the endpoints of a run for the process at the other end, which sends `(endpoints, api)`.

    It gets back the endpoints in the same order, or a text that says which there is none for, and why.
    """
    try:
        endpoints, api = msgspec.msgpack.decode(pipe.recv_bytes(), type=tuple[list[Endpoint], str])
    except EOFError:
        return 1
    answer = _resolve_all(endpoints, api)
    if isinstance(answer, str):
        # What is refused is refused by all of the package, and not by what is left of it.
        bare_package.forget()
        importlib.reload(package)
        answer = _resolve_all(endpoints, api)
    pipe.send_bytes(msgspec.msgpack.encode(answer))
    return 0


def _resolve_all(endpoints: list[Endpoint], api: str) -> list[Endpoint] | str:
    resolved = []
    for endpoint in endpoints:
        try:
            resolved.append(package.resolve(endpoint, api))
        except Exception as error:  # noqa: BLE001 - whatever the package does not like goes to the user as its words
            from rowmill.transport import faults

            words = faults.redacted(f"{type(error).__name__}: {error}", endpoint.secrets)
            return f"{endpoint.provider!r}: {words}"
    return resolved
