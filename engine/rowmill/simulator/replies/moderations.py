"""`/moderations`: a text is flagged by the words in it."""

import re
from hashlib import blake2b
from typing import Any

import msgspec

from rowmill.simulator.replies import wording
from rowmill.simulator.replies.reply import Completion, Damage, RequestError, encode, read, require_model

_DEFAULT_MODEL = "omni-moderation-latest"
_OTHERS_SCORE = 1e-6  # times a byte of the digest: what is not flagged has a low score, each text its own
_SURE = 0.9
_IMAGES = {
    "self-harm", "self-harm/instructions", "self-harm/intent", "sexual", "violence", "violence/graphic",
}  # fmt: skip
_WORDS = {  # word -> its category. The markers are for tests, the words for people who try the recipe.
    "[[flag]]": "violence",
    "kill": "violence",
    "murder": "violence",
    "attack": "violence",
    "bloodbath": "violence/graphic",
    "hate": "hate",
    "vermin": "hate",
    "idiot": "harassment",
    "stupid": "harassment",
    "suicide": "self-harm",
    "porn": "sexual",
    "bomb": "illicit/violent",
    "shoplift": "illicit",
}
CATEGORIES = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip
_marker = re.compile(
    "|".join(re.escape(word) if word.startswith("[") else rf"\b{word}\b" for word in _WORDS), re.IGNORECASE
)


class _ModeratedPart(msgspec.Struct, gc=False):
    type: str
    text: str = ""


class ModerationsRequest(msgspec.Struct, gc=False):
    """What the simulator reads of a request body. A list of parts is one thing to judge, a list of texts several."""

    input: str | list[str | _ModeratedPart]
    model: str = _DEFAULT_MODEL


_decoder = msgspec.json.Decoder(ModerationsRequest)


def compose(body: bytes, mark: bytes, _mean_tokens: float = 0.0, _damage: Damage | None = None) -> Completion:
    """Answer a request body whose `fingerprint` is `mark`. Raises `RequestError` for a request that is wrong."""
    request = read(_decoder, body)
    require_model(request.model)
    texts = _texts(request.input)
    reply = {
        "id": f"modr-{mark.hex()}",
        "model": request.model,
        "results": [_judged(text) for text in texts],
    }
    tokens = sum(wording.tokens(len(text)) for text in texts)
    return Completion(encode(reply), tokens, 0, tokens, len(texts))


def _texts(given: str | list[str | _ModeratedPart]) -> list[str]:
    if isinstance(given, str):
        return [given]
    if not given:
        raise RequestError(400, "[] is too short - 'input'", param="input")
    if all(isinstance(one, str) for one in given):
        return [one for one in given if isinstance(one, str)]
    return ["\n".join(one if isinstance(one, str) else one.text for one in given)]


def _judged(text: str) -> dict[str, Any]:
    flagged = {_WORDS[found.lower()] for found in _marker.findall(text)}
    mark = blake2b(text.encode(), digest_size=len(CATEGORIES)).digest()
    return {
        "flagged": bool(flagged),
        "categories": {name: name in flagged for name in CATEGORIES},
        "category_scores": {
            name: _SURE + byte / 2560 if name in flagged else (byte + 1) * _OTHERS_SCORE
            for name, byte in zip(CATEGORIES, mark, strict=True)
        },
        "category_applied_input_types": {
            name: ["text", "image"] if name in _IMAGES else ["text"] for name in CATEGORIES
        },
    }
