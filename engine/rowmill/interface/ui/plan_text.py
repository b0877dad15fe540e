"""A plan for a person, in short aligned lines, and for a program."""

from collections.abc import Callable

import msgspec

from rowmill.core.plain_text import one_line
from rowmill.core.plan import BatchPlan, BudgetPlan, Plan, Range, Tokens, TrialFigures
from rowmill.interface.ui import arranged, figures

_MB = 1e6
_TRIAL = "--sample-live 200 would measure it"
_PRICES = 6  # that are shown


def text(plan: Plan) -> str:
    """Return the plan in several short lines, without a final line break."""
    lines = [arranged.line("input", _input(plan))]
    if plan.request is not None:
        rows = f", {plan.request.rows:,} rows in it" if plan.request.rows > 1 else ""
        model = "the row's own model" if plan.request.model is None else f"model {_name(plan.request.model)}"
        lines.append(arranged.line("request", f"{plan.request.api} at {_name(plan.request.provider)}, {model}{rows}:"))
        lines += [arranged.line("", one_line(each)) for each in plan.request.body.split("\n")]
    lines += arranged.block("preset", [one_line(each) for each in plan.presets])
    lines += arranged.block("rows", _rows(plan))
    lines += arranged.block("trial", _trial(plan.trial))
    lines += arranged.block("tokens", _tokens(plan.tokens))
    lines += arranged.block("price", _prices(plan))
    lines.append(arranged.line("live", f"{_usd(plan.live.usd)}; {_time(plan.live.seconds)}"))
    lines.append(arranged.line("batch", _batch(plan.batch)))
    if plan.cluster is not None:
        lines.append(arranged.line("cluster", plan.cluster))
    if plan.budget is not None:
        lines.append(arranged.line("budget", _budget(plan.budget, plan.input.rows)))
    lines += arranged.block("notices", [one_line(notice) for notice in plan.notices])
    return "\n".join(lines)


def to_json(plan: Plan) -> bytes:
    """Return the plan as indented JSON with a final line break."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=2) + b"\n"


def _input(plan: Plan) -> str:
    read = plan.input
    files = f" in {read.files:,} files" if read.files > 1 else ""
    shards = f"{read.shards:,} shard{'' if read.shards == 1 else 's'}"
    size = f"{read.size / _MB:,.1f} MB" if read.size >= _MB else f"{read.size / 1e3:,.1f} kB"
    format_ = read.format if read.delimiter is None else f"{read.format} with {read.delimiter}"
    return f"{one_line(read.path)}: {read.rows:,} rows{files}, {size} of {format_}, {shards}"


def _rows(plan: Plan) -> list[str]:
    counted, lines = plan.counted, []
    about = "" if counted.whole else "about "
    if counted.first_invalid is not None:
        first = figures.clipped(counted.first_invalid, 160)
        lines.append(f"{about}{counted.invalid:,.0f} cannot become a request; the first is {first}")
    if counted.duplicates:
        least = "" if counted.whole else "at least "
        lines.append(f"{least}{counted.duplicates:,.0f} requests are like an earlier one and are not sent")
    if plan.request is None:
        lines.append("no row can become a request")
    return lines


def _trial(trial: TrialFigures | None) -> list[str]:
    if trial is None:
        return []
    cost = "cost is unknown" if trial.usd is None else f"cost {figures.money(trial.usd)}"
    if trial.again:
        cost = f"asked before, {cost} then"
    failed = f", {trial.failed:,} failed" if trial.failed else ""
    spent = f"{figures.compact(trial.prompt_tokens)} tokens in, {figures.compact(trial.completion_tokens)} out"
    return [f"{trial.rows:,} rows asked{failed}: {spent}, {cost}; in {trial.output} and {trial.run_dir}"]


def _tokens(tokens: Tokens) -> list[str]:
    lines = [f"prompts {_range(tokens.prompt, figures.compact)}, {tokens.prompt_by}"]
    if tokens.reply.high:
        advice = "" if tokens.measured else f"; {_TRIAL}"
        lines.append(f"replies {_range(tokens.reply, figures.compact)}, {tokens.reply_by}{advice}")
    return lines


def _prices(plan: Plan) -> list[str]:
    lines = []
    for each in plan.prices[:_PRICES]:
        what = f"{_name(each.model)} at {_name(each.provider)}"
        if each.input is None or each.output is None:
            lines.append(f"of {what} is not known: {each.how_to_set}")
        else:
            lines.append(f"{what}: {figures.money(each.input)} in, {figures.money(each.output)} out a million tokens")
    if (rest := len(plan.prices) - _PRICES) > 0:
        lines.append(f"and {rest:,} more")
    return lines


def _batch(batch: BatchPlan) -> str:
    if batch.problem is not None:
        return f"cannot be used: {batch.problem}"
    off = f", {batch.discount:.0%} off" if batch.discount is not None else ""
    parts = f"{batch.parts:,} batch{'' if batch.parts == 1 else 'es'}"
    hours = round(batch.seconds / 3600)
    when = f"within {hours} h" if batch.waves == 1 else f"{batch.waves:,} waves, each within 24 h: at most {hours:,} h"
    return f"{_usd(batch.usd)}{off}; {parts} at {_name(batch.provider)}; {when}"


def _budget(budget: BudgetPlan, rows: int) -> str:
    caps = ", ".join(
        f"{name} {figures.number(cap) if name != 'max_usd' else figures.money(cap)}"
        for name, cap in budget.caps.items()
    )
    by = " by batches" if budget.mode == "batch" else ""
    if budget.rows is None:
        return f"{caps}: max_usd cannot be held without a known price"
    if budget.first is None:
        return f"{caps}: covers all rows{by}"
    share = figures.share(budget.rows, rows)
    return f"{caps}: covers about {budget.rows:,} of {rows:,} rows ({share}){by}; {budget.first} is met first"


def _usd(usd: Range | None) -> str:
    return "cost unknown" if usd is None else _range(usd, figures.money)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "no limit configured: as fast as the provider answers"
    return f"{figures.duration(seconds)} at the configured limits"


def _range(amount: Range, shown: Callable[[float], str]) -> str:
    low, likely, high = map(shown, (amount.low, amount.likely, amount.high))
    return likely if low == high else f"{likely} ({low} to {high})"


def _name(text: str) -> str:
    return figures.clipped(text, 60)
