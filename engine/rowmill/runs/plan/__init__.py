"""What a run would take before it is started: rows, tokens, dollars and time, live and by batches side by side.

A plan asks nobody and writes nothing. Prompts are counted from their characters (`sizes`), over the whole input or a
sample of it (`survey`); replies are guessed. A trial of some rows that were really asked makes measurements of both:
what it paid is laid over what was counted for the same rows (`sampling`).
"""

from collections.abc import Mapping, Sequence

import msgspec

from rowmill.budget import prices
from rowmill.core.config import Config, money_checks, preset_defaults, steps
from rowmill.core.config.sections import BudgetConfig, StepConfig
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
)
from rowmill.files.input.inputs import Input
from rowmill.runs.begun import find_input
from rowmill.runs.plan import pace, sizes
from rowmill.runs.plan.costs import ModelTokens, PlanCosts
from rowmill.runs.plan.preview import shortened
from rowmill.runs.plan.sampling import fitted, regressed, widened
from rowmill.runs.plan.step_sizes import AnsweredTask, scaled, total
from rowmill.runs.plan.survey import Survey, survey_input
from rowmill.runs.plan.trials import Trial
from rowmill.runs.preparation import doubts, settled
from rowmill.runs.steps import all_of, checked_tasks
from rowmill.tasks import Task
from rowmill.tasks.api import CHARACTERS_A_TOKEN


def plan(config: Config, trial: Trial | None = None) -> Plan:
    """Plan the run. Asks nobody, writes nothing, and needs no key.

    Raises `RowmillError`s for a configuration or an input that cannot be run, as the run would.
    """
    found = find_input(config)
    config = settled(config, found)
    tasks = checked_tasks(config, found)
    if config.step:
        return _plan_steps(config, found, tasks, trial)
    (task,) = tasks
    surveyed = survey_input(config, found, task)
    tokens, usage = _tokens(config, surveyed, trial)
    costs = PlanCosts(config, list(usage) or [None])
    requests, sums = surveyed.sums.requests, tokens.prompt + tokens.reply
    live = LivePlan(usd=costs.live(usage), seconds=pace.seconds(config.provider, requests, sums.likely))
    batch = BatchPlan(
        problem=_batch_problem(config),
        provider=config.batch_provider.name,
        usd=costs.batch(usage),
        discount=costs.discount(usage),
        parts=pace.parts(config.batch, requests, surveyed.sums.body_bytes),
        waves=pace.waves(config.batch, tokens.prompt.likely),
        seconds=pace.WINDOW_S * pace.waves(config.batch, tokens.prompt.likely),
    )
    usd = batch.usd if config.task.mode == "batch" else live.usd
    needs = {"max_requests": requests, "max_tokens": sums.likely, "max_usd": None if usd is None else usd.likely}
    return Plan(
        input=_input(found, surveyed),
        request=_request(config, surveyed, task),
        counted=_counted(config, surveyed, requests),
        tokens=tokens,
        prices=costs.lines(),
        live=live,
        batch=batch,
        budget=_budget(config, surveyed.rows, needs),
        trial=None if trial is None else trial.figures,
        notices=[*found.notes, *doubts(config, found, tasks), *_notices(config, trial)],
        presets=_presets(config),
        cluster=_cluster(config, surveyed.shards, sum(file.size for file in found.files)),
    )


def _plan_steps(config: Config, found: Input, tasks: Sequence[Task], trial: Trial | None) -> Plan:
    """Plan a run of several steps, as if every row went on in each of them."""
    planned: list[tuple[Survey, Tokens]] = []
    usd: Range | None = Range(0.0, 0.0, 0.0)
    lines: list[PriceLine] = []
    longest: list[float | None] = []
    before: list[tuple[StepConfig, int]] = []  # steps, with the characters of an answer
    for number, task in enumerate(tasks):
        own = steps.of_step(config, number)
        surveyed = survey_input(own, found, AnsweredTask(task, before), run=config)
        tokens, usage = _tokens(own, surveyed, None)
        planned.append((surveyed, tokens))
        costs = PlanCosts(own, list(usage) or [None])
        lines += [each for each in costs.lines() if each not in lines]
        cost = costs.live(usage)
        usd = None if usd is None or cost is None else usd + cost
        sums, requests = surveyed.sums, surveyed.sums.requests
        longest.append(pace.seconds(own.provider, requests, (tokens.prompt + tokens.reply).likely))
        before.append((config.step[number], CHARACTERS_A_TOKEN * round(sums.reply / max(1.0, surveyed.rows))))
    first, requests = planned[0][0], sum(each.sums.requests for each, _ in planned)
    tokens = Tokens(
        prompt=total(each.prompt for _, each in planned),
        reply=total(each.reply for _, each in planned),
        prompt_by=f"of {len(planned)} steps, as if every row went on",
        reply_by=planned[-1][1].reply_by,
        measured=False,
    )
    if trial is not None and trial.tells:
        tokens, usd = scaled(trial.figures, first.rows)
    likely = (tokens.prompt + tokens.reply).likely
    # Steps are at work side by side: the slowest one by itself, or all of them at what they share.
    seconds = [*longest, pace.seconds(config.provider, requests, likely)]
    known = [each for each in seconds if each is not None]
    needs = {"max_requests": requests, "max_tokens": likely, "max_usd": None if usd is None else usd.likely}
    why = "a run of several steps asks by live requests"
    return Plan(
        input=_input(found, first),
        request=_request(steps.of_step(config, 0), first, tasks[0]),
        counted=_counted(config, first, requests),
        tokens=tokens,
        prices=lines,
        live=LivePlan(usd=usd, seconds=max(known) if known and None not in longest else None),
        batch=BatchPlan(problem=why, provider="", usd=None, discount=None, parts=0, waves=0, seconds=0.0),
        budget=_budget(config, first.rows, needs),
        trial=None if trial is None else trial.figures,
        notices=[*found.notes, *doubts(config, found, tasks), *_notices(config, trial)],
        presets=_presets(config),
        cluster=None,
    )


def _input(found: Input, surveyed: Survey) -> PlannedInput:
    return PlannedInput(
        path=found.where,
        format=found.format,
        files=len(found.files),
        size=sum(file.size for file in found.files),
        rows=surveyed.rows,
        shards=surveyed.shards,
        delimiter=found.delimiter,
    )


def _counted(config: Config, surveyed: Survey, requests: float) -> Counted:
    return Counted(
        rows=surveyed.read,
        whole=surveyed.whole,
        requests=requests,
        invalid=surveyed.invalid,
        first_invalid=surveyed.first_invalid,
        duplicates=None if config.cache.use == "off" else surveyed.duplicates,
    )


# Tokens


def _tokens(config: Config, surveyed: Survey, trial: Trial | None) -> tuple[Tokens, dict[str | None, ModelTokens]]:
    """Return all tokens of the run, and those of each model that rows name."""
    sums = surveyed.sums
    low, high = sizes.SPREAD
    prompt = widened(Range(sums.prompt * low, sums.prompt, sums.prompt * high), surveyed.spread)
    reply = widened(Range(sums.least_reply, sums.reply, sums.most_reply), surveyed.spread)
    tokens = Tokens(
        prompt=prompt,
        reply=reply,
        prompt_by=_counted_by(surveyed),
        reply_by=_guessed_by(config, surveyed),
        measured=False,
    )
    if trial is not None and trial.tells:
        counted = [point.counted for point in trial.points]
        mean = sums.prompt / sums.requests if sums.requests else 0.0
        prompt = fitted(counted, [point.prompt for point in trial.points], mean, sums.requests)
        reply = regressed(counted, [point.reply for point in trial.points], mean, sums.requests)
        prompt, reply = widened(prompt, surveyed.spread), widened(reply, surveyed.spread)
        by = f"measured on {trial.figures.rows:,} rows"
        tokens = Tokens(prompt=prompt, reply=reply, prompt_by=by, reply_by=by, measured=True)
    usage = {
        name: ModelTokens(
            tokens.prompt * (each.prompt / sums.prompt if sums.prompt else 0.0),
            tokens.reply * (each.reply / sums.reply if sums.reply else 0.0),
        )
        for name, each in surveyed.by_model.items()
    }
    return tokens, usage


def _counted_by(surveyed: Survey) -> str:
    if surveyed.whole:
        return "counted from the characters of all requests"
    return f"counted from the characters of {surveyed.read:,} rows from all over the input"


def _guessed_by(config: Config, surveyed: Survey) -> str:
    if config.task.api in prices.WITHOUT_REPLIES:
        return "there are none"
    if surveyed.caps == {None}:
        return f"a guess: {sizes.GUESSED_REPLY} tokens each, for there is no max_tokens or the like"
    if None in surveyed.caps:
        return f"a guess: half of each row's cap, {sizes.GUESSED_REPLY} tokens where there is none"
    caps = {cap for cap in surveyed.caps if cap is not None}
    if len(caps) == 1 and surveyed.first_rows == 1 and min(caps) <= 2 * sizes.MOST_GUESSED:
        return f"a guess: half of the cap of {min(caps):,} tokens each"
    return f"a guess: half of the cap of each, at most {sizes.MOST_GUESSED:,} tokens a row"


# The rest


def _budget(config: Config, rows: int, needs: Mapping[str, float | None]) -> BudgetPlan | None:
    """Say what the budget covers; `needs`: what the whole run takes, by the key of its cap; None where unknown."""
    caps = {name: cap for name in BudgetConfig.__struct_fields__ if (cap := getattr(config.budget, name)) is not None}
    if not caps:
        return None
    mode = "batch" if config.task.mode == "batch" else "live"
    shares: dict[str, float] = {}
    for name, cap in caps.items():
        need = needs[name]
        if need is None:
            return BudgetPlan(caps=caps, mode=mode, rows=None, share=None, first=None)
        shares[name] = cap / need if need else 1.0
    first = min(shares, key=shares.__getitem__)
    if shares[first] >= 1.0:
        return BudgetPlan(caps=caps, mode=mode, rows=rows, share=1.0, first=None)
    return BudgetPlan(caps=caps, mode=mode, rows=int(rows * shares[first]), share=shares[first], first=first)


def _batch_problem(config: Config) -> str | None:
    """Return why the run cannot go through the Batch API, or could not if it were to."""
    if config.names_models:
        return "the rows name their own models, and a batch has one"
    if config.task.mode == "live":
        config = msgspec.structs.replace(config, task=msgspec.structs.replace(config.task, mode="batch"))
    return next(money_checks.problems(config), None)


def _request(config: Config, surveyed: Survey, task: Task) -> PlannedRequest | None:
    if surveyed.first is None:
        return None
    provider = next((each for each in config.provider if each.weight > 0), config.provider[0])
    if config.task.mode == "batch":
        provider = config.batch_provider
    model = config.model_of(provider)
    body = surveyed.first.body
    if provider.model is not None and provider.model != config.task.model:
        body = task.asking(provider.model)(body)
    return PlannedRequest(
        api=config.task.api,
        provider=provider.name,
        model=None if config.names_models else model,
        rows=surveyed.first_rows,
        body=shortened(body),
    )


def _cluster(config: Config, shards: float, size: int) -> str | None:
    """Say what a cluster would do. Nobody is asked: which nodes there are shows only when the run begins."""
    cluster = config.cluster
    if not cluster.used:
        return None
    if config.task.mode == "batch":
        return "not used: batches are made on this machine, where one process keeps up with any provider"
    where = f"at {cluster.address}" if cluster.address is not None else "of the environment, or one started here"
    nodes = "every node that is there or joins" if cluster.nodes is None else f"up to {cluster.nodes:,} nodes"
    each = cluster.workers_per_node if cluster.workers_per_node != "auto" else config.workers.count
    cpus = "free CPU" if cluster.cpus_per_worker == 1 else f"{cluster.cpus_per_worker:g} free CPUs"
    workers = f"a worker for each {cpus}"
    if each != "auto":
        workers += f", {each:,} on each node at most"
    input_ = (
        "are carried to the nodes" if cluster.input == "carry" else "are carried to nodes that do not see the files"
    )
    return (
        f"{cluster.engine} {where}: {nodes}, {workers}, at most {max(1, round(shards)):,} in all (one a shard); "
        f"{size / 1e6:,.1f} MB of rows {input_}"
    )


def _notices(config: Config, trial: Trial | None) -> list[str]:
    unused = set.intersection(*(set(prices.unused(own)) for own in all_of(config)))
    lines = [f'[prices] "{name}": nobody is asked for this model' for name in config.prices if name in unused]
    if trial is not None and not trial.tells:
        lines.append("the trial has measured nothing: no reply said how many tokens it took")
    if config.cache.use == "disk":
        lines.append("replies that the cache has from other runs are not counted: they would cost nothing")
    return lines


def _presets(config: Config) -> list[str]:
    return [told for each in config.provider if (told := preset_defaults.given(config, each))]
