"""Bringing a run's processes up side by side: what takes long to start is started first and waited for last."""

from collections.abc import Sequence
from typing import Protocol

import msgspec
import psutil

from rowmill.core.config import SIMULATOR, Config
from rowmill.core.errors import MachineError
from rowmill.core.wire import Endpoint

_READY_S = 60.0  # the simulator comes up in a second; on a disk that sleeps, in more


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

    Of several steps each has as many as are configured, or its part of the cores. `wanted`: as a cluster has room for,
    instead.
    """
    count, steps = config.workers.count, len(config.step) or 1
    if wanted is None:
        cores = len(psutil.Process().cpu_affinity() or [0])
        wanted = -(-cores // steps) if count == "auto" else count
    shards = -(-input_bytes // shard_bytes)
    return max(1, min(wanted, shards)) * steps


class EndpointStart:
    """The endpoints of a run on their way: where the simulator is embedded, its address is known once it is up."""

    def __init__(
        self, endpoints: Sequence[Endpoint], embedded: EmbeddedEndpoint | None, *, providers: int | None = None
    ) -> None:
        """Start what is to be started, and return at once. `providers`: so many have these; left out: each is one's."""
        self._endpoints = endpoints
        self._providers = len(endpoints) if providers is None else providers
        self._embedded = embedded
        if embedded is not None:
            embedded.start()

    def wait(self) -> list[Endpoint]:
        """Return the endpoints in their order. Raises `MachineError` where the simulator does not come up."""
        endpoints = list(self._endpoints)
        if self._embedded is not None:
            try:
                self._embedded.wait_ready(_READY_S)
            except (RuntimeError, TimeoutError) as error:
                raise MachineError(f"{error}; run the same command again") from None
            endpoints = [_embedded(endpoint, self._embedded.base_url, self._providers) for endpoint in endpoints]
        assert all(endpoint.base_url != SIMULATOR for endpoint in endpoints)
        return endpoints

    def end(self) -> None:
        """End what was started, whatever came of it."""
        if self._embedded is not None:
            self._embedded.stop()


def _embedded(endpoint: Endpoint, base_url: str, providers: int) -> Endpoint:
    """Give an endpoint of the simulator its URL. Of several providers each has a path, limits and faults of its own."""
    if endpoint.base_url != SIMULATOR:
        return endpoint
    if providers > 1:
        base_url = f"{base_url.removesuffix('/v1')}/{endpoint.provider}/v1"
    url = endpoint.url and base_url + endpoint.url.removeprefix(SIMULATOR)
    return msgspec.structs.replace(endpoint, base_url=base_url, url=url)
