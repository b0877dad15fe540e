"""Bringing a run's processes up side by side: what takes long to start is started first and waited for last."""

from collections.abc import Sequence
from typing import Protocol

import msgspec
import psutil

from rowmill.core.config import SIMULATOR, Config
from rowmill.core.errors import ConfigError, MachineError
from rowmill.core.wire import Endpoint
from rowmill.ipc import processes

_READY_S = 60.0  # the openai package imports in a second or two; on a disk that sleeps, in more
_RESOLVER = "rowmill.transport.resolver"


class EmbeddedEndpoint(Protocol):
    """The simulator's process, as the supervisor needs it."""

    @property
    def base_url(self) -> str:
        """Its URL, ending in /v1; known once `wait_ready` has returned."""

    def start(self) -> None:
        """Begin to start it."""

    def wait_ready(self, timeout: float) -> object:
        """Wait until it listens. Raises RuntimeError or TimeoutError with the reason where it does not."""

    def stop(self) -> None:
        """End it."""


def worker_count(config: Config, input_bytes: int, shard_bytes: int, wanted: int | None = None) -> int:
    """Return how many workers the run gets: as configured, or one a core, and no more than there can be shards.

    `wanted`: as a cluster has room for, instead.
    """
    count = config.workers.count
    if wanted is None:
        wanted = len(psutil.Process().cpu_affinity() or [0]) if count == "auto" else count
    shards = -(-input_bytes // shard_bytes)
    return max(1, min(wanted, shards))


class EndpointStart:
    """The endpoints of a run on their way: the simulator where it is embedded, and the openai package that is asked."""

    def __init__(
        self,
        config: Config,
        endpoints: Sequence[Endpoint],
        embedded: EmbeddedEndpoint | None,
        *,
        batch: bool = False,
    ) -> None:
        """Start what is to be started, and return at once. `batch`: for a worker of batches."""
        self._api = config.task.api
        self._endpoints = endpoints
        self._embedded = embedded
        if embedded is not None:
            embedded.start()
        # The sdk transport and batches have clients of their own; the direct one wants to know what to send.
        direct = config.client.transport == "direct" and not batch
        self._resolver = processes.start(_RESOLVER, "rowmill-endpoint") if direct else None

    def wait(self) -> list[Endpoint]:
        """Return the endpoints in their order, with URL and headers for the direct transport.

        Raises `ConfigError` where the openai package refuses one, `MachineError` where a process does not come up.
        """
        endpoints = list(self._endpoints)
        if self._embedded is not None:
            try:
                self._embedded.wait_ready(_READY_S)
            except (RuntimeError, TimeoutError) as error:
                raise MachineError(f"{error}; run the same command again") from None
            endpoints = [_embedded(endpoint, self._embedded.base_url, len(endpoints)) for endpoint in endpoints]
        assert all(endpoint.base_url != SIMULATOR for endpoint in endpoints)
        return endpoints if self._resolver is None else self._resolved(self._resolver, endpoints)

    def end(self) -> None:
        """End what was started, whatever came of it."""
        if self._resolver is not None:
            self._resolver.process.kill()
            self._resolver.process.join()
        if self._embedded is not None:
            self._embedded.stop()

    def _resolved(self, resolver: processes.Child, endpoints: list[Endpoint]) -> list[Endpoint]:
        with resolver.pipe as pipe:
            try:
                pipe.send_bytes(msgspec.msgpack.encode((endpoints, self._api)))
                if not pipe.poll(_READY_S):
                    resolver.process.kill()
                    raise MachineError("the openai package took over a minute to start; run the same command again")
                answer = msgspec.msgpack.decode(pipe.recv_bytes(), type=list[Endpoint] | str)
            except (EOFError, BrokenPipeError, ConnectionResetError):
                raise MachineError("the openai package cannot be started: python -c 'import openai' says why") from None
        resolver.process.join()
        if isinstance(answer, str):
            raise ConfigError(f"the openai package refuses the settings of provider {answer}")
        return answer


def _embedded(endpoint: Endpoint, base_url: str, providers: int) -> Endpoint:
    """Give an endpoint of the simulator its URL. Of several providers each has a path, limits and faults of its own."""
    if endpoint.base_url != SIMULATOR:
        return endpoint
    if providers > 1:
        base_url = f"{base_url.removesuffix('/v1')}/{endpoint.provider}/v1"
    return msgspec.structs.replace(endpoint, base_url=base_url)
