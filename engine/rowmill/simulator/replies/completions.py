"""`/completions`, the older one: text in, text out."""

import msgspec

from rowmill.simulator.replies.chat import CompletionUsage
from rowmill.simulator.replies.dialogue import ChatMessage, choices
from rowmill.simulator.replies.reply import (
    Completion,
    Damage,
    RequestError,
    created,
    encode,
    read,
    require_choices,
    require_possible,
)


class CompletionsRequest(msgspec.Struct, gc=False):
    """What the simulator reads of a request body."""

    model: str
    prompt: str | list[str]
    max_tokens: int | None = None
    stream: bool | None = None
    n: int | None = None


_decoder = msgspec.json.Decoder(CompletionsRequest)


def compose(body: bytes, mark: bytes, mean_tokens: float = 0.0, _damage: Damage | None = None) -> Completion:
    """Answer a request body whose `fingerprint` is `mark`, one choice for each prompt."""
    request = read(_decoder, body)
    prompts = [request.prompt] if isinstance(request.prompt, str) else request.prompt
    if not prompts:
        raise RequestError(400, "[] is too short - 'prompt'", param="prompt")
    cap = request.max_tokens
    require_possible(request.model, cap, request.stream)
    n = require_choices(request.n)
    how = {"cap": cap, "mean_tokens": mean_tokens, "param": "prompt"}
    said = [one for prompt in prompts for one in choices([ChatMessage("user", prompt)], mark, n, **how)]
    prompt_tokens = sum(one.prompt_tokens for one in said[::n])
    completion_tokens = sum(one.tokens for one in said)
    reply = {
        "id": f"cmpl-{mark.hex()}",
        "object": "text_completion",
        "created": created(mark),
        "model": request.model,
        "choices": [
            {"index": number, "text": one.text, "logprobs": None, "finish_reason": "length" if one.cut else "stop"}
            for number, one in enumerate(said)
        ],
        "usage": CompletionUsage(prompt_tokens, completion_tokens, prompt_tokens + completion_tokens),
        "system_fingerprint": "fp_rowmill",
    }
    charge = prompt_tokens + sum(one.charge - one.prompt_tokens for one in said)
    return Completion(encode(reply), prompt_tokens, completion_tokens, charge, len(prompts))
