"""What reads the replies of a run: an API's own reader, and around it what the configuration wants to be kept."""

from collections.abc import Callable, Sequence

import msgspec

from rowmill.core.config import TaskConfig
from rowmill.core.config.sections import ReplyPart
from rowmill.core.wire import Answer
from rowmill.tasks.api import Api
from rowmill.tasks.contents import choices_in
from rowmill.tasks.replies import whole


def reader(
    api: Api, config: TaskConfig, *, whole_reply: bool = False, parts: Sequence[ReplyPart] = ()
) -> Callable[[bytes], Answer]:
    """Return what reads a reply's body; see `Task.parse`."""
    if whole_reply:
        return whole(api.parse)
    parse = _listing(api.parse) if choices_asked(config) > 1 else api.parse
    if not parts:
        return parse
    from rowmill.tasks.kept_parts import keeping

    return keeping(parse, parts)


def choices_asked(config: TaskConfig) -> int:
    """Return how many replies each row is asked for."""
    n = config.params.get("n", 1)
    return n if type(n) is int else 1


def _listing(parse: Callable[[bytes], Answer]) -> Callable[[bytes], Answer]:
    """Return a reader whose outputs are lists of choices, also where one choice is all that there is."""

    def parse_listing(body: bytes) -> Answer:
        answer = parse(body)
        if choices_in(answer.output) is not None:
            return answer
        return msgspec.structs.replace(answer, output=b"[%b]" % answer.output)

    return parse_listing
