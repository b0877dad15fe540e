"""A usage that its request cannot have is no figure to end a budget by: it counts as an estimate, and as odd.

Generous, for what is possible is billed: a gateway may add a prompt of its own, images take tokens that no text shows,
and some servers do not count reasoning against the cap.
"""

from collections.abc import Sequence

import msgspec

from rowmill.core.errors import InvalidOutput
from rowmill.core.wire import Answer
from rowmill.tasks.replies import readable_usage, shared

USUAL_TOKENS = 4096  # of a reply with its prompt: no more is asked about those
_ADDED_TOKENS = 65_536  # a token is a byte at least, but for what gateways and images add
_LONGEST_REPLY = 1_048_576  # where there is no cap
_OVER_CAP = 4


def is_possible(prompt: int, completion: int, *, size: int, cap: int) -> bool:
    """Whether a request of so many bytes, with a reply of so many tokens at most (0: no cap), can have taken these."""
    longest = _OVER_CAP * cap + _ADDED_TOKENS if cap else _LONGEST_REPLY
    return prompt <= size + _ADDED_TOKENS and completion <= longest


def possible(answer: Answer, *, size: int, cap: int, estimate: tuple[int, int]) -> Answer:
    """Return the answer, or one with estimated tokens of prompt and completion where its own are no figures."""
    if answer.prompt_tokens or answer.completion_tokens:
        fine = is_possible(answer.prompt_tokens, answer.completion_tokens, size=size, cap=cap)
    else:
        fine = readable_usage(answer.usage)
    return answer if fine else with_tokens(answer, *estimate)


def with_tokens(answer: Answer, prompt: int, completion: int) -> Answer:
    """Return the answer with these tokens."""
    return msgspec.structs.replace(answer, prompt_tokens=prompt, completion_tokens=completion, cached_tokens=0)


def spread(results: Sequence[Answer | InvalidOutput], prompt: int, completion: int) -> list[Answer | InvalidOutput]:
    """Return the results of rows that shared a request with their shares of these tokens."""
    found: list[Answer | InvalidOutput] = []
    shares = zip(shared(prompt, len(results)), shared(completion, len(results)), strict=True)
    for each, (own_prompt, own_completion) in zip(results, shares, strict=True):
        if isinstance(each, InvalidOutput):
            each.answer = with_tokens(each.answer, own_prompt, own_completion)
            found.append(each)
        else:
            found.append(with_tokens(each, own_prompt, own_completion))
    return found
