"""The providers in a report: what all sessions together had of each."""

from collections.abc import Iterable, Sequence

from rowmill.core.config import Config
from rowmill.core.reports import Cost, CostLine, ProviderFigures, SessionReport
from rowmill.runs.report.configuration import bare_url
from rowmill.runs.report.document import ProviderFacts
from rowmill.runs.report.texts import cut

_NAME, _URL = 120, 400  # characters


def asked_providers(sessions: Iterable[SessionReport], config: Config | None, cost: Cost | None) -> list[ProviderFacts]:
    """Return the providers that were asked, those with the most requests first."""
    sums: dict[str, ProviderFacts] = {}
    replies: dict[str, float] = {}  # seconds that all replies of each took
    for session in sessions:
        for name, figures in session.providers.items():
            facts = sums.setdefault(name, _nothing(name))
            _add(facts, figures)
            replies[name] = replies.get(name, 0.0) + (figures.mean_reply_s or 0.0) * figures.answered
    asked = {} if config is None else {each.name: each for each in config.provider}
    lines: dict[str, list[CostLine]] = {}
    for line in () if cost is None else cost.lines:
        lines.setdefault(line.provider, []).append(line)
    for name, facts in sums.items():
        _add_cost(facts, lines.get(name, []))
        facts.mean_reply_s = round(replies[name] / facts.answered, 4) if facts.answered and replies[name] else None
        if config is not None and name in asked:
            facts.base_url = cut(bare_url(asked[name].base_url), _URL)
            facts.model = cut(config.model_of(asked[name]) or "", _NAME) or None
        facts.name = cut(name, _NAME)
    return sorted(sums.values(), key=lambda facts: -facts.requests)


def _nothing(name: str) -> ProviderFacts:
    return ProviderFacts(
        name=name,
        base_url=None,
        model=None,
        state="open",
        requests=0,
        answered=0,
        limited=0,
        failed=0,
        retries=0,
        prompt_tokens=0,
        completion_tokens=0,
        mean_reply_s=None,
        held_s=0.0,
        opened=0,
        in_flight_max=0,
        requests_per_minute=None,
        tokens_per_minute=None,
        usd=None,
    )


def _add(facts: ProviderFacts, figures: ProviderFigures) -> None:
    for name in ("requests", "answered", "limited", "failed", "retries", "prompt_tokens", "completion_tokens"):
        setattr(facts, name, getattr(facts, name) + getattr(figures, name))
    facts.held_s = round(facts.held_s + figures.held_s, 3)
    facts.opened += figures.opened
    facts.in_flight_max = max(facts.in_flight_max, figures.in_flight_max)
    facts.state = figures.state
    facts.requests_per_minute, facts.tokens_per_minute = figures.requests_per_minute, figures.tokens_per_minute


def _add_cost(facts: ProviderFacts, lines: Sequence[CostLine]) -> None:
    priced = [line.usd for line in lines if line.usd is not None]
    facts.usd = sum(priced) if priced else None
    if not facts.prompt_tokens:  # as of batches, which sessions count by themselves
        facts.prompt_tokens = sum(line.spent.prompt_tokens for line in lines)
        facts.completion_tokens = sum(line.spent.completion_tokens for line in lines)
