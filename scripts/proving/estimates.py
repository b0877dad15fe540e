"""What a plan says of real rows, held against what they are billed at."""

import itertools
from pathlib import Path
from typing import Any, NamedTuple

from rowmill.core.amounts import Price, Spent
from rowmill.core.simulator import SimulatorSettings
from scripts.proving import faults
from scripts.proving.packing import SYSTEM
from scripts.proving.runs import Run, Tables, Witness, check, simulator

ROWS = 60_000
PROMPT = "Describe the package {id} in one line:\n{description}"  # the id: no two rows ask the same
MODEL = "sim-small"
PRICE = Price(input=0.25, output=2.0, cached_input=0.25)
PRICES: Tables = {"prices": {MODEL: {"input": PRICE.input, "cached_input": PRICE.cached_input, "output": PRICE.output}}}
WORKERS = 2
SLOTS = 64
SAMPLED = 200
CLOSE, CLOSER = 0.10, 0.03  # of the bill


class CostCalculator(NamedTuple):
    """What the simulator has charged for."""

    requests: int
    prompt_tokens: int
    completion_tokens: int

    @property
    def tokens(self) -> int:
        """Tokens of prompts and replies."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def usd(self) -> float:
        """Dollars."""
        return PRICE.usd(Spent(self.requests, self.prompt_tokens, 0, self.completion_tokens))

    def without(self, other: "CostCalculator") -> "CostCalculator":
        """Return what was charged since another bill."""
        return CostCalculator(*(own - before for own, before in zip(self, other, strict=True)))


def bill(witness: Witness) -> CostCalculator:
    """Return what was charged so far."""
    stats = witness.stats()
    return CostCalculator(stats["requests"], stats["prompt_tokens"], stats["completion_tokens"])


def source_of(folder: Path) -> Path:
    """Take the first real rows; once for all items."""
    source = folder / f"packages-{ROWS}.jsonl"
    if not source.exists():
        everything, _ = faults.input_of(folder)
        with everything.open("rb") as file:
            source.write_bytes(b"".join(itertools.islice(file, ROWS)))
    return source


def plan(folder: Path) -> bool:
    """Plan a run before it, by characters and by a sample, and run it. Another one is shown for comparison."""
    print(
        "  Without a sample a plan guesses each reply at half of max_tokens. Judged is a run whose max_tokens is near\n"
        "  twice the mean reply; shown below it, not judged: one whose replies have a long tail, cut at max_tokens."
    )
    holds = _compared(folder, "plan", max_tokens=32, reply_tokens=0.0, judged=True)
    _compared(folder, "plan-long", max_tokens=120, reply_tokens=60.0, judged=False)
    return holds


def _compared(folder: Path, name: str, *, max_tokens: int, reply_tokens: float, judged: bool) -> bool:
    tables: Tables = {"task": {"system": SYSTEM, "params": {"max_tokens": max_tokens}}, **PRICES}
    settings = SimulatorSettings(latency_ms=faults.LATENCY_MS, reply_tokens=reply_tokens)
    with simulator(settings) as witness:
        run = Run(
            folder / name,
            source_of(folder),
            witness.url,
            PROMPT,
            workers=WORKERS,
            concurrency=SLOTS,
            tables=tables,
        )
        counted = run.plan()
        unasked = witness.stats()["requests"]
        measured = run.plan(f"--sample-live={SAMPLED}")
        sample = bill(witness)
        run.finish()
        billed = bill(witness).without(sample)
    mean = billed.completion_tokens / billed.requests
    print(
        f"  max_tokens {max_tokens}, mean reply {mean:.1f} tokens: {billed.requests:,} requests billed at "
        f"{billed.prompt_tokens:,} + {billed.completion_tokens:,} tokens, {billed.usd:.4f} USD"
    )
    holds = _close("counted from characters", counted, billed, CLOSE, judged=judged)
    holds &= _close(f"measured on {SAMPLED} rows", measured, billed, CLOSER, judged=judged)
    if judged:
        holds &= check("requests", billed.requests == ROWS, f"{billed.requests:,} for {ROWS:,} rows")
        holds &= check("a plan asks nobody", unasked == 0, f"{unasked} requests")
        holds &= check("a sample asks its rows", sample.requests == SAMPLED, f"{sample.requests} requests")
    return holds


def _close(name: str, plan: dict[str, Any], billed: CostCalculator, most: float, *, judged: bool) -> bool:
    prompt, reply, usd = plan["tokens"]["prompt"], plan["tokens"]["reply"], plan["live"]["usd"]
    tokens = prompt["likely"] + reply["likely"]
    off = {"tokens": tokens / billed.tokens - 1, "dollars": usd["likely"] / billed.usd - 1}
    within = usd["low"] <= billed.usd <= usd["high"]
    spread = f"from {usd['low']:.4f} to {usd['high']:.4f}: the bill is {'in' if within else 'out of'} it"
    figures = (
        f"{off['tokens']:+.2%} of the tokens ({tokens:,.0f}), {off['dollars']:+.2%} of the dollars "
        f"({usd['likely']:.4f}, {spread})"
    )
    if not judged:
        print(f"       {name}: {figures}")
        return True
    return check(name, max(map(abs, off.values())) <= most, f"{figures}; at most {most:.0%} off")
