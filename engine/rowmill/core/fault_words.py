"""What the classes of the fault table mean, and what a person can do about each, in words."""

from typing import NamedTuple


class FaultWords(NamedTuple):
    """One class. Both are sentences without their last full stop."""

    meaning: str
    advice: str


_ROW = "look at the examples; once the input or the prompt is put right, `rowmill retry` asks again for these rows"
_RETRY = "`rowmill retry` asks again for these rows"

WORDS = {
    "rate_limited": FaultWords(
        "The provider's rate limit was reached (HTTP 429)",
        "nothing: the run waits and goes on; set requests_per_minute or tokens_per_minute to stay below it",
    ),
    "slow_down": FaultWords(
        "The provider asked for traffic that grows more slowly", "nothing: the run sends less and goes on"
    ),
    "quota_exhausted": FaultWords(
        "The account's quota or credit is used up", "raise it at the provider, then run the same command again"
    ),
    "payment_required": FaultWords(
        "The provider wants to be paid first (HTTP 402)", "add credit at the provider, then run the same command again"
    ),
    "auth": FaultWords("The API key was refused", "check the key and the variable that api_key_env names"),
    "forbidden": FaultWords(
        "The provider refuses this to the account, or to this row", "check the key's rights, and the examples"
    ),
    "not_found": FaultWords(
        "The model or the URL is not there, or not for this key", "check task.model and provider.base_url"
    ),
    "invalid_request": FaultWords("The provider refused the request as it was built", _ROW),
    "too_large": FaultWords("The request was larger than the provider takes", _ROW),
    "context_length": FaultWords(
        "The prompt, or the prompt with its reply, is longer than the model's context",
        "shorten these rows, or name a provider with a longer context as fallback",
    ),
    "content_filter": FaultWords("The provider's filter refused the row or its reply", _ROW),
    "overloaded": FaultWords(
        "The provider had no room for the request (HTTP 503, 529)", "nothing: the run waits and goes on"
    ),
    "server_error": FaultWords("The provider failed (HTTP 5xx)", _RETRY),
    "timeout": FaultWords("No whole reply came within timeout_s", f"raise provider.timeout_s, or {_RETRY}"),
    "connection": FaultWords("The connection could not be made, or broke off", f"look at the network; {_RETRY}"),
    "asleep": FaultWords("The machine slept or the run was stopped while the request was on its way", _RETRY),
    "bad_reply": FaultWords(
        "What came back was no reply of this API", f"check provider.base_url and what stands in between; {_RETRY}"
    ),
    "empty_reply": FaultWords(
        "The reply held no text", "raise the params' limit of tokens, which reasoning may have used up"
    ),
    "reply_too_large": FaultWords("The reply was larger than is taken in", "limit the length of replies by params"),
    "invalid_output": FaultWords(
        "The reply did not fit the schema, however often it was asked",
        "say in the prompt what is wanted, loosen the schema, or raise retry.invalid_output",
    ),
    "finish_reason": FaultWords(
        "The reply ended with a finish_reason that task.fail_on_finish names",
        "raise the params' limit of tokens, or name the reason in retry.on_finish; look at the examples",
    ),
    "invalid_row": FaultWords(
        "No request could be made of the row: it is no JSON, or lacks a column", "put the row right in the input"
    ),
    "unreadable_document": FaultWords(
        "A document that the row names is missing, or has no text that can be read",
        f"put the files right: the code of each says what is wrong; {_RETRY}",
    ),
    "poison_row": FaultWords(
        "Workers died three times while this row was in flight, so it was given up",
        "look at the row and at run.log; a smaller row, or more memory, may help",
    ),
    "internal_error": FaultWords("A defect of Rowmill itself", "look at run.log, and report it"),
}
UNKNOWN = FaultWords("A class that this version does not know", "look at the examples and at run.log")


def words_of(fault: str) -> FaultWords:
    """Return what a class means; one of another version's is told as unknown."""
    return WORDS.get(fault, UNKNOWN)
