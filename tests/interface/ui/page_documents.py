"""Documents of reports, as `rowmill report --json` makes them: whole ones, and what is odd about some."""

import functools
import math
import random
from bisect import bisect_left
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

Document = dict[str, Any]

START = 1_795_967_000.0  # seconds since 1970
SCRIPT = "<script>document.title = 'taken'; alert('row')</script><img src=x onerror=alert(1)>"
LONG = "https://shop.example/" + "a-very-long-address-without-a-space/" * 12


def merged(base: Document, changes: Mapping[str, Any]) -> Document:
    """Return a document with some members changed, deeply."""
    return {
        **base,
        **{
            name: merged(base[name], value) if isinstance(value, dict) and isinstance(base.get(name), dict) else value
            for name, value in changes.items()
        },
    }


def timeline(
    seconds: int = 120,
    *,
    providers: int = 2,
    classes: int = 4,
    models: int = 2,
    pause_s: float = 3000.0,
    step: float = 1.0,
) -> Document:
    """Return columns of two sessions of equal length, with a pause between them."""
    dice = random.Random(7)
    half = seconds // 2
    at = [START + (place + 1) * step + (pause_s if place >= half else 0.0) for place in range(seconds)]
    rows = [max(0, round((300 + 60 * math.sin(place / 9) + dice.gauss(0, 25)) * step)) for place in range(seconds)]
    rows = [0 if half // 2 < place < half // 2 + seconds // 12 else row for place, row in enumerate(rows)]
    names = [f"provider-{number}" for number in range(providers)]
    own = [[row * (number + 1) * 2 // (providers * (providers + 1)) for row in rows] for number in range(providers)]
    usd = [row * 0.0004 for row in rows]
    return {
        "at": at,
        "seconds": [step] * seconds,
        "session": [int(place >= half) for place in range(seconds)],
        "rows": rows,
        "failed": [row // 90 for row in rows],
        "requests": [round(row * 1.05) for row in rows],
        "retries": [row // 20 for row in rows],
        "prompt_tokens": [row * 140 for row in rows],
        "completion_tokens": [row * 31 for row in rows],
        "in_flight": [40.0 + dice.random() * 20 for _ in rows],
        "allowed": [64.0 + (place % 40) for place in range(seconds)],
        "waiting": [float(place % 7) for place in range(seconds)],
        "workers": [2.0] * seconds,
        "usd": usd,
        "cpu": [1.2 + dice.random() / 3 for _ in rows],
        "rss_mb": [180.0 + place / 10 for place in range(seconds)],
        "lag_ms": [dice.random() * 12 for _ in rows],
        "usd_by": {f"model-{number}": [each / models for each in usd] for number in range(models)},
        "faults": {
            f"fault_{number}": [dice.randrange(12 - min(number, 10)) for _ in rows] for number in range(classes)
        },
        "providers": [
            {
                "name": name,
                "requests": own[number],
                "answered": own[number],
                "limited": [0] * seconds,
                "tokens": [each * 170 for each in own[number]],
                "in_flight": [20.0] * seconds,
                "allowed": [32.0] * seconds,
                "requests_per_s": [200.0] * seconds,
                "tokens_per_s": [None] * seconds,
                "state": ["open"] * seconds,
            }
            for number, name in enumerate(names)
        ],
        "more_providers": 0,
    }


def marks(line: Document) -> list[Document]:
    """Return what is marked on such a timeline: an outage, a hold, a kill, a resume and a cap."""
    at = line["at"]
    half = len(at) // 2

    def mark(kind: str, when: float, words: str, until: float | None = None, provider: str | None = None) -> Document:
        return {"at": when, "until": until, "kind": kind, "words": words, "provider": provider}

    return [
        mark("start", START, "started: 2 workers"),
        mark("hold", at[half // 4], "provider-0 asked for silence", at[half // 4] + 4, "provider-0"),
        mark("outage", at[half // 2], "provider-1 did not answer", at[half // 2 + half // 6], "provider-1"),
        mark("kill", at[half - 1], "killed: kill -9"),
        mark("resume", at[half] - 1, "resumed"),
        mark("cap", at[-1], "stopped: budget.max_usd is reached"),
    ]


@functools.cache
def distribution(name: str, title: str, unit: str, middle: float) -> Document:
    """Return a log-normal distribution, the same one to all who ask: nobody changes it."""
    dice = random.Random(name)
    values = sorted(max(0, round(dice.lognormvariate(math.log(middle), 0.5))) for _ in range(3000))
    edges = sorted({*range(33), *(round(32 * 2 ** (power / 16)) for power in range(200))})
    counts = [(low, high, bisect_left(values, high) - bisect_left(values, low)) for low, high in pairwise(edges)]
    return {
        "name": name,
        "title": title,
        "unit": unit,
        "count": len(values),
        "p50": values[1500],
        "p90": values[2700],
        "p99": values[2970],
        "max": values[-1],
        "buckets": [each for each in counts if each[2]],
    }


def numbers(values: list[float]) -> Document:
    """Return figures of numbers."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1]
    width = (high - low) / 10 or 1.0
    buckets = [[low + place * width, low + (place + 1) * width, 0] for place in range(10)]
    for value in ordered:
        buckets[min(9, int((value - low) / width))][2] += 1
    quarters = [ordered[int(part * (len(ordered) - 1))] for part in (0.25, 0.5, 0.75)]
    return {
        "count": len(ordered),
        "min": low,
        "p25": quarters[0],
        "median": quarters[1],
        "p75": quarters[2],
        "max": high,
        "mean": sum(ordered) / len(ordered),
        "buckets": buckets,
    }


def field(name: str, kind: str, **more: Any) -> Document:
    """Return what stands in one field of the replies."""
    return {
        "name": name, "kind": kind, "rows": 9900, "null": 0, "values": [], "distinct": None, "more": 0, "numbers": None,
        "lengths": None, **more,
    }  # fmt: skip


def failure(name: str, rows: int, message: str) -> Document:
    """Return a class of failed rows with an example."""
    example = {
        "index": 1234, "id": "T-51234", "code": "bad", "status": 400, "message": message,
        "input": f'{{"subject": "{message}"}}', "prompt": f"Subject: {message}\n\n{LONG}",
    }  # fmt: skip
    return {
        "name": name, "rows": rows, "meaning": f"what {name} means", "advice": f"what to do about {name}",
        "examples": [example],
    }  # fmt: skip


def reply(index: int, *, failed: bool = False, text: str = "") -> Document:
    """Return a row of the viewer."""
    return {
        "index": index,
        "id": f"T-{50_000 + index}",
        "failed": failed,
        "input": f'{{"subject": "{text or "Where is my parcel?"}", "number": {index}}}',
        "prompt": f"Subject: {text or 'Where is my parcel?'} {index}",
        "output": "server_error: the model is overloaded"
        if failed
        else f'{{"label": "delivery", "summary": "{text or "late"}"}}',
        "finish_reason": None if failed else "stop",
        "model": "model-0",
        "tokens": None if failed else [140, 31],
    }


def provider(number: int) -> Document:
    """Return one provider's figures."""
    return {
        "name": f"provider-{number}", "base_url": f"https://api-{number}.example/v1", "model": f"model-{number % 2}",
        "state": ("open", "failing", "holding")[number % 3], "requests": 18_000 + number, "answered": 17_500,
        "limited": 120 * number, "failed": 500, "retries": 480, "prompt_tokens": 2_520_000,
        "completion_tokens": 558_000, "mean_reply_s": 0.18 + number / 10, "held_s": 4.0 * number, "opened": number,
        "in_flight_max": 61,
        "requests_per_minute": 12_000.0, "tokens_per_minute": None, "usd": 6.7,
    }  # fmt: skip


def session(number: int, started: float, ended: float, state: str, *, words: str, code: int) -> Document:
    """Return one start of the run."""
    return {
        "id": f"session-{number}", "started": started, "ended": ended, "mode": "live", "state": state, "words": words,
        "exit_code": code, "elapsed_s": 60.0, "rows": 16_000, "rows_per_s": 266.7, "requests": 17_000, "retries": 800,
        "workers": 2, "deaths": 0, "cpu_s": 70.1, "notices": [],
    }  # fmt: skip


def report(changes: Mapping[str, Any] | None = None, **line: Any) -> Document:
    """Return the document of a run with an outage, a kill and a cap, with some members changed."""
    columns = timeline(**line)
    done, failed = sum(columns["rows"]), sum(columns["failed"])
    usd = sum(columns["usd"])
    document: Document = {
        "kind": "report",
        "rowmill_version": "9.9.9",
        "made_at": columns["at"][-1] + 3 if columns["at"] else START,
        "live": False,
        "run": {
            "id": "44a252b75135", "run_dir": "/data/labels.jsonl.run", "input": "tickets.jsonl",
            "output": "labels.jsonl", "errors": "labels.errors.jsonl", "state": "stopped",
            "words": "stopped: budget.max_usd of $14.00 is reached",
            "next": "`rowmill run config.toml` goes on with it", "started": START, "ended": START + 3120,
            "slowed_by": "", "notices": ["disk nearly full, paused"],
        },
        "totals": {
            "rows": 60_000, "done": done, "failed": failed, "elapsed_s": 120.4, "rows_per_s": done / 120.4,
            "requests": sum(columns["requests"]), "retries": sum(columns["retries"]), "reasked": 12,
            "prompt_tokens": sum(columns["prompt_tokens"]), "completion_tokens": sum(columns["completion_tokens"]),
            "cached": 0, "duplicates": 310, "packed": 0, "tokens_saved": 0, "deaths": 0, "quarantined": 0,
            "billed_twice_max": 61, "cpu_s": 140.2, "rss_max_mb": {"supervisor": 88.0, "worker": 120.5},
        },
        "cost": {
            "usd": usd, "projected_usd": usd * 60_000 / max(done, 1), "max_usd": 14.0, "max_tokens": None,
            "max_requests": None, "tokens": sum(columns["prompt_tokens"]), "requests": sum(columns["requests"]),
            "retries_usd": 0.21, "lost_usd": 0.013, "reserved_usd": 0.0, "cache_usd": 0.124, "packs_usd": None,
            "batches_usd": None,
            "lines": [
                {
                    "provider": f"provider-{number}", "model": f"model-{number}", "mode": "live", "requests": 17_000,
                    "prompt_tokens": 2_520_000, "cached_tokens": 1200, "completion_tokens": 558_000, "usd": usd / 2,
                }
                for number in range(2)
            ],
            "more_lines": 0, "unpriced": [],
        },
        "timeline": columns,
        "marks": marks(columns) if len(columns["at"]) > 20 else [],
        "distributions": [
            distribution("latency", "Time of a reply", "ms", 180),
            distribution("slot_wait", "Wait for a slot", "ms", 3),
            distribution("rate_wait", "Wait for the rate", "ms", 1),
            distribution("prompt_tokens", "Tokens of a prompt", "tokens", 140),
            distribution("completion_tokens", "Tokens of a reply", "tokens", 31),
        ],
        "failures": [
            failure("invalid_request", failed - failed // 3, SCRIPT),
            failure("server_error", failed // 3, "\u202eright to left\u0007 " + LONG),
        ],
        "more_failures": [0, 0],
        "faults": [
            {"name": name, "requests": sum(column), "meaning": f"what {name} means"}
            for name, column in columns["faults"].items()
        ],
        "fields": {
            "looked_at": 10_000, "of": done,
            "fields": [
                field("label", "values", values=[["delivery", 4210], ["billing", 3002], [SCRIPT, 1500], [LONG, 1188]]),
                field("confidence", "numbers", numbers=numbers([(place * 37 % 101) / 100 for place in range(9900)])),
                field("summary", "texts", lengths=numbers([float(20 + place * 31 % 77) for place in range(9900)])),
            ],
            "more": 0,
        },
        "replies": [
            reply(0), reply(812, text=SCRIPT), reply(1234, failed=True), reply(2500, text="مرحبا، أين طلبي؟"),
            *(reply(3000 + 700 * number) for number in range(16)),
        ],
        "providers": [provider(number) for number in range(len(columns["providers"]))],
        "more_providers": 0,
        "steps": [], "more_steps": 0, "win_rates": [],
        "batches": [],
        "more_batches": 0,
        "sessions": [
            session(1, START, START + 60, "killed", words="killed", code=137),
            session(2, START + 3060, START + 3120, "stopped", words="budget.max_usd is reached", code=3),
        ],
        "more_sessions": 0,
        "nodes": [],
        "more_nodes": 0,
        "configuration": [["task.model", "model-0"], ["task.prompt", "Subject: {subject}\n\n{message}"]],
        "more_configuration": 0,
        "problems": [],
    }  # fmt: skip
    return merged(document, changes or {})
