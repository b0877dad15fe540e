"""What the simulator says: replies and errors in OpenAI's shapes, computed from the request body alone.

`wording` has the words, `reply` what all routes share, `dialogue` what a model says to messages; each route has a
module with `compose`. JSON that was asked for is made by `structured` (`schema`, `packs`, and `damage`, which breaks
it on purpose); it is loaded at the first request that wants it.
"""

from rowmill.simulator.replies.chat import compose
from rowmill.simulator.replies.reply import Completion, Damage, RequestError, error_body, fingerprint, models
from rowmill.simulator.replies.wording import digest

__all__ = ["Completion", "Damage", "RequestError", "compose", "digest", "error_body", "fingerprint", "models"]
