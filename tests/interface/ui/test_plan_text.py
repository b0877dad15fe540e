"""A plan as a person reads it."""

import json

import msgspec
import pytest

from rowmill.core.plan import (
    BatchPlan,
    BudgetPlan,
    Counted,
    LivePlan,
    Plan,
    PlannedInput,
    PlannedRequest,
    PriceLine,
    Range,
    Tokens,
    TrialFigures,
)
from rowmill.interface.ui.plan_text import text, to_json

PLAN = Plan(
    input=PlannedInput(path="in.jsonl", format="jsonl", files=1, size=8_766_164, rows=60_000, shards=200),
    request=PlannedRequest(
        api="chat.completions", provider="main", model="gpt-4o-mini", rows=1, body='{\n  "model": 1\n}'
    ),
    counted=Counted(rows=60_000, whole=True, requests=60_000, invalid=0, first_invalid=None, duplicates=None),
    tokens=Tokens(
        prompt=Range(3.0e6, 3.7e6, 4.7e6),
        reply=Range(720_000, 3.6e6, 7.2e6),
        prompt_by="counted from the characters of all requests",
        reply_by="a guess: half of the cap",
        measured=False,
    ),
    prices=[PriceLine(provider="main", model="gpt-4o-mini", input=0.15, output=0.6, how_to_set=None)],
    live=LivePlan(usd=Range(0.88, 2.72, 5.02), seconds=None),
    batch=BatchPlan(
        problem=None,
        provider="main",
        usd=Range(0.44, 1.36, 2.51),
        discount=0.5,
        parts=2,
        waves=1,
        seconds=86_400.0,
    ),
    budget=None,
    trial=None,
    notices=[],
)
TRIAL = TrialFigures(
    rows=200,
    failed=2,
    requests=203,
    prompt_tokens=11_000,
    completion_tokens=10_400,
    usd=0.0078,
    output="out.jsonl",
    run_dir="out.run",
    again=False,
)


def but(**changes: object) -> str:
    return text(msgspec.structs.replace(PLAN, **changes))


def test_a_whole_plan_is_a_few_aligned_lines() -> None:
    assert text(PLAN).splitlines() == [
        "  input    in.jsonl: 60,000 rows, 8.8 MB of jsonl, 200 shards",
        "  request  chat.completions at main, model gpt-4o-mini:",
        "           {",
        '             "model": 1',
        "           }",
        "  tokens   prompts 3.7M (3.0M to 4.7M), counted from the characters of all requests",
        "           replies 3.6M (720k to 7.2M), a guess: half of the cap; --sample-live 200 would measure it",
        "  price    gpt-4o-mini at main: $0.15 in, $0.60 out a million tokens",
        "  live     $2.72 ($0.88 to $5.02); no limit configured: as fast as the provider answers",
        "  batch    $1.36 ($0.44 to $2.51), 50% off; 2 batches at main; within 24 h",
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"live": LivePlan(usd=None, seconds=7500)}, "  live     cost unknown; 2h05m at the configured limits"),
        (
            {"prices": [PriceLine(provider="main", model="m", input=None, output=None, how_to_set="add it")]},
            "  price    of m at main is not known: add it",
        ),
        (
            {"batch": msgspec.structs.replace(PLAN.batch, waves=3, seconds=3 * 86_400.0, parts=1)},
            "  batch    $1.36 ($0.44 to $2.51), 50% off; 1 batch at main; 3 waves, each within 24 h: at most 72 h",
        ),
        (
            {"batch": msgspec.structs.replace(PLAN.batch, problem="cache.use: no")},
            "  batch    cannot be used: cache.use: no",
        ),
        (
            {"budget": BudgetPlan(caps={"max_usd": 1.0}, mode="live", rows=22_000, share=0.37, first="max_usd")},
            "  budget   max_usd $1.00: covers about 22,000 of 60,000 rows (36.7%); max_usd is met first",
        ),
        (
            {"budget": BudgetPlan(caps={"max_usd": 1.0}, mode="live", rows=None, share=None, first=None)},
            "  budget   max_usd $1.00: max_usd cannot be held without a known price",
        ),
        (
            {"budget": BudgetPlan(caps={"max_tokens": 9e9}, mode="batch", rows=60_000, share=1.0, first=None)},
            "  budget   max_tokens 9,000,000,000: covers all rows by batches",
        ),
        (
            {"trial": TRIAL},
            "  trial    200 rows asked, 2 failed: 11k tokens in, 10k out, cost $0.0078; in out.jsonl and out.run",
        ),
        (
            {"counted": msgspec.structs.replace(PLAN.counted, invalid=2, first_invalid="row 7: the line is blank")},
            "  rows     2 cannot become a request; the first is row 7: the line is blank",
        ),
        (
            {"counted": msgspec.structs.replace(PLAN.counted, whole=False, duplicates=1234.5)},
            "  rows     at least 1,234 requests are like an earlier one and are not sent",
        ),
        ({"request": None}, "  rows     no row can become a request"),
        ({"notices": ["one", "two"]}, "  notices  one"),
    ],
)
def test_what_is_special_has_its_words(changes: dict[str, object], line: str) -> None:
    assert line in but(**changes).splitlines()


def test_a_trial_that_was_asked_before_costs_nothing_now() -> None:
    again = msgspec.structs.replace(TRIAL, again=True)
    assert "10k out, asked before, cost $0.0078 then; in" in but(trial=again)


def test_vectors_have_no_replies() -> None:
    tokens = msgspec.structs.replace(PLAN.tokens, reply=Range(0, 0, 0))
    assert "replies" not in but(tokens=tokens)


def test_what_others_wrote_cannot_steer_the_terminal() -> None:
    request = msgspec.structs.replace(PLAN.request, provider="a\x1b[2Jb", model="m\n", body="{\x9b2J\u2028}")  # type: ignore[type-var]  # not None
    assert all(line.isprintable() for line in but(request=request).split("\n"))
    invalid = msgspec.structs.replace(PLAN.counted, invalid=1, first_invalid="row 1: \x1b[2J\n")
    assert "\x1b" not in but(counted=invalid)


def test_a_program_reads_the_values() -> None:
    assert json.loads(to_json(PLAN)) == json.loads(msgspec.json.encode(PLAN))
    assert to_json(PLAN).endswith(b"}\n")
