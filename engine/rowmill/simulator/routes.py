"""The routes that cost a request: what answers each, below a provider's `/v1`."""

from collections.abc import Callable

import msgspec

from rowmill.simulator.replies import Completion, Damage, chat, completions, embeddings, moderations, responses


class Route(msgspec.Struct, frozen=True):
    """One route."""

    path: str
    compose: Callable[[bytes, bytes, float, Damage | None], Completion]  # body, its fingerprint, mean tokens, damage
    salt: int  # tells the same body on another route apart

    def key(self, mark: bytes) -> int:
        """Make the 64 bits by which a request with a body of this fingerprint is known in the figures."""
        return int.from_bytes(mark[:8], "little") ^ self.salt


ROUTES = {
    route.path: route
    for route in (
        Route("/chat/completions", chat.compose, 0),
        Route("/responses", responses.compose, 1),
        Route("/completions", completions.compose, 2),
        Route("/embeddings", embeddings.compose, 3),
        Route("/moderations", moderations.compose, 4),
    )
}


def of_url(url: str) -> Route | None:
    """Return the route of a url as batches name them, such as "/v1/embeddings"."""
    return ROUTES.get(url.removeprefix("/v1")) if url.startswith("/v1/") else None
