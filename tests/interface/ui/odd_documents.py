"""Documents of runs that are unlike most: tiny, huge, without this or that. Each has to be drawn, to be read."""

from typing import Any

from tests.interface.ui.page_documents import (
    LONG,
    SCRIPT,
    START,
    Document,
    field,
    marks,
    numbers,
    provider,
    report,
    timeline,
)

BARE: Document = {
    "cost": None, "marks": [], "distributions": [], "failures": [], "faults": [], "fields": None, "replies": [],
    "providers": [], "sessions": [], "configuration": [],
}  # fmt: skip
NOTHING: Document = {"done": 0, "failed": 0, "requests": 0, "retries": 0, "rows_per_s": 0.0, "billed_twice_max": 0}


def _of_no_price() -> Document:
    cost = {"usd": None, "projected_usd": None, "cache_usd": None, "retries_usd": None, "lost_usd": None}
    lines = [{**line, "usd": None} for line in report()["cost"]["lines"]]
    line = timeline()
    unpriced = {"usd": [0.0] * len(line["at"]), "usd_by": {}}
    return report({"cost": {**cost, "max_usd": None, "lines": lines, "unpriced": ["model-0"]}, "timeline": unpriced})


def _of_batches() -> Document:
    def batch(part: int) -> dict[str, Any]:
        status = ("completed", "failed", "in_progress", "expired")[part % 4]
        created = START + 600 * part
        return {
            "part": part, "number": 1 + part % 2, "batch": f"batch_{part:04}", "status": status, "created": created,
            "ended": None if status == "in_progress" else created + 3600 + 90 * part, "requests": 500, "rows": 500,
            "answered": 480, "failed": 3, "left": 17,
        }  # fmt: skip

    changes = {**BARE, "batches": [batch(part) for part in range(18)], "made_at": START + 90_000}
    return report({**changes, "run": {"state": "running", "next": None, "ended": None}}, seconds=0)


def _of_a_cluster() -> Document:
    def node(number: int) -> dict[str, Any]:
        return {
            "node": f"node-{number}.a-rather-long-name.example", "session": number % 2, "joined_s": 4.0 * number,
            "left_s": 31.0 if number == 2 else None, "why": "it was preempted" if number == 2 else None, "workers": 16,
            "rows": 9_000, "cpu_s": 12.0, "carried_mb": 812.0, "sent_mb": 31.5,
        }  # fmt: skip

    return report({"nodes": [node(number) for number in range(5)]})


def _of_hostile_texts() -> Document:
    nasty = f"{SCRIPT}{LONG}\u202e\u0000\u001b[31m\ud800</script><!--"
    document = report({"run": dict.fromkeys(("words", "next", "input", "output", "run_dir"), nasty)})
    document["run"]["notices"] = [nasty] * 7
    document["problems"] = [nasty]
    for mark in document["marks"]:
        mark.update(words=nasty, provider=nasty)
    for one in (*document["providers"], *document["timeline"]["providers"]):
        one["name"] = nasty
    document["timeline"]["faults"] = {nasty: document["timeline"]["rows"]}
    document["timeline"]["usd_by"] = {nasty: document["timeline"]["usd"]}
    document["failures"][0].update(name=nasty, meaning=nasty, advice=nasty)
    document["configuration"] = [[nasty, nasty]]
    document["cost"]["lines"][0].update(model=nasty, provider=nasty)
    document["steps"] = [
        dict.fromkeys(("rows", "failed", "left_out", "requests", "prompt_tokens", "completion_tokens"), 1)
    ]
    document["steps"][0].update(name=nasty, usd=None)
    share = {"rows": 1, "share": 1.0, "low": 0.2, "high": 1.0}
    shares = {"wins": [share, share], "ties": share, "decided": share, "unreadable": 1, "incomplete": 1}
    rates = {"between": [nasty, "b"], "judges": [nasty, nasty], "rows": 3, "better": nasty, "in_both_orders": [1, 0]}
    document["win_rates"] = [rates | shares]
    return document


def _of_next_to_no_cost() -> Document:
    line = timeline(3)
    usd = 0.00003
    cost = {"usd": usd, "projected_usd": usd, "max_usd": None}
    return report(
        {"cost": cost, "timeline": {"usd": [usd, 0.0, 0.0], "usd_by": {"m": [usd, 0.0, 0.0]}}}, seconds=len(line["at"])
    )


def _of_numbers_without_end() -> Document:
    document = report()
    document["fields"]["fields"] = [
        field(name, "numbers", numbers=numbers([largest * place / 100 for place in range(100)]))
        for name, largest in (("id", 2.0**63), ("made up", 1e30), ("below", -1e300))
    ]
    return document


def _of_many_providers() -> Document:
    return report({"providers": [provider(number) for number in range(12)]}, providers=12, models=12)


def _of_three_days() -> Document:
    line = timeline(1500, step=172.8, pause_s=3 * 86_400.0)
    hold = marks(line)[1]
    many = [{**hold, "at": at, "until": at + 900} for at in line["at"][:1400:20]]
    rows = {"rows": 100_000_000, "elapsed_s": 259_200.0, "rows_per_s": 277.0}
    return report({"marks": [*marks(line), *many], "totals": rows}, seconds=1500, step=172.8, pause_s=3 * 86_400.0)


def _of_a_clock_that_is_set_back() -> Document:
    """Return one of a single session, half way through which the clock goes back by an hour."""
    document = report({"marks": []}, pause_s=0.0)
    line = document["timeline"]
    line["at"] = [at - 3600 * (place >= len(line["at"]) // 2) for place, at in enumerate(line["at"])]
    line["session"] = [0] * len(line["at"])
    return document


ODD: dict[str, Document] = {
    "nothing done yet": report(
        {**BARE, "totals": NOTHING, "run": {"state": "running", "next": None, "ended": None, "slowed_by": "the disk"}},
        seconds=0,
    ),
    "rows are not counted yet": report({"totals": {"rows": None}, "run": {"state": "running"}}),
    "one moment": report(seconds=1),
    "two rows of one second": report({"totals": {"rows": 2, "done": 2}, "run": {"state": "finished"}}, seconds=2),
    "three days with three days between": _of_three_days(),
    "12 providers and models": _of_many_providers(),
    "30 classes of faults": report(classes=30),
    "no price is known": _of_no_price(),
    "all rows failed": report({"totals": {"done": 500, "failed": 500, "rows": 500}, "fields": None}),
    "only batches": _of_batches(),
    "a cluster": _of_a_cluster(),
    "a clock that is set back": _of_a_clock_that_is_set_back(),
    "next to no cost": _of_next_to_no_cost(),
    "numbers without end": _of_numbers_without_end(),
    "hostile texts": _of_hostile_texts(),
}
