"""What replies end with, in the words of chat completions, whatever words a server has for that."""

import re

CUT = "length"  # a reply that has all the tokens that it may have
FILTERED = "content_filter"  # one that a filter has held back, or a part of it

# OpenAI and Azure, Gemini, Anthropic, Mistral, Qwen.
_FILTERED = frozenset({
    FILTERED, "content_filtered", "content_filtering", "contentfilter", "content_policy_violation",
    "safety", "recitation", "blocklist", "blocked", "prohibited_content", "spii", "image_safety", "image_recitation",
    "image_prohibited_content", "refusal", "sensitive", "moderation", "moderated", "guardrail",
    "guardrail_intervened", "guardrails", "data_inspection_failed", "language",
})  # fmt: skip
# OpenAI, Anthropic, the responses API, Gemini, Mistral, Cohere, Hugging Face, llama.cpp.
_CUT = frozenset({
    CUT, "max_tokens", "max_output_tokens", "max_completion_tokens", "max_new_tokens", "max_length", "model_length",
    "token_limit", "limit", "model_context_window_exceeded", "context_length_exceeded",
})  # fmt: skip
# As a language or a protocol spells the member of an enumeration: "FinishReason.MAX_TOKENS", "FINISH_REASON_SAFETY".
_ENUMERATION = re.compile(r"(?:finish_?reason|stop_?reason)[._:]+")
WHOLE = frozenset({"stop", "end_turn"})  # as nearly all end; Anthropic's word for it


def common(reason: str) -> str:
    """Return the word of chat completions for a reason; one that has none as it is, in small letters with "_"."""
    word = _ENUMERATION.sub("", reason.strip().lower().replace("-", "_"), count=1)
    if word in _FILTERED or word.partition(":")[0].rstrip() in _FILTERED:  # "content_filter: PROHIBITED_CONTENT"
        return FILTERED
    return CUT if word in _CUT else word


def near(word: str) -> str | None:
    """Return the word of chat completions for what somebody has misspelled; None for a word that may be a server's."""
    import difflib  # only here: workers need none

    known = difflib.get_close_matches(word, sorted(_FILTERED | _CUT), n=1, cutoff=0.8)
    return common(known[0]) if known and common(word) == word != common(known[0]) else None
