"""Several steps in one run: each asks about what the ones before have answered, and nothing befalls one alone."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.end_to_end.conftest import Arrival, Place, Server, Started, until

ROWS = 60
BAD, WORSE = 7, 31  # rows that fail in the first step, and in the second
USAGE = b'{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}'
_CONFIG = """
[input]
path = "in.jsonl"
id = "id"
[task]
model = "sim-small"
[output]
path = "out.jsonl"
[[provider]]
name = "main"
base_url = "URL"
timeout_s = 20
[[provider]]
name = "other"
base_url = "URL"
timeout_s = 20
[workers]
count = 1
concurrency = 16
[retry]
attempts = 1
[checkpoint]
commit_ms = 20
[[step]]
name = "draft"
provider = "main"
prompt = "Draft: {text}"
[[step]]
name = "judge"
prompt = "Judge {draft} of {text}"
where = "score >= 3"
provider = "other"
schema = { type = "object", required = ["score"], properties = { score = { type = "integer" } } }
[[step]]
name = "title"
model = "sim-large"
provider = ["main", "other"]
prompt = "Title of {draft}, which has {judge.score}: {text}"
"""


class World:
    """A server that answers each step, holds one of them back, and knows what it was asked."""

    def __init__(self, server: Callable[..., Server]) -> None:
        self._open = {name: threading.Event() for name in ("Draft", "Judge", "Title")}
        for each in self._open.values():
            each.set()
        self.bad: set[tuple[str, int]] = set()
        self.server = server(self._answer)

    def _answer(self, arrival: Arrival) -> tuple[int, dict[str, str], bytes]:
        step = step_of(arrival)
        assert self._open[step].wait(60), "nobody has let it go on"
        if (step, arrival.row) in self.bad:
            return 400, {}, b'{"error":{"message":"not this one","code":"odd"}}'
        content = json.dumps({"score": arrival.row % 5 + 1}) if step == "Judge" else f"{step} of {arrival.row}"
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        reply = {"id": "r", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        return 200, {}, json.dumps(reply).encode()[:-1] + b', "usage": %b}' % USAGE

    @property
    def asked(self) -> Counter[str]:
        return Counter(map(step_of, self.server.arrivals))

    def killed_in(self, step: str, started: Started) -> None:
        """Hold a step back, kill the run once requests of that step wait, and let everything go on again."""
        self._open[step].clear()
        before = self.asked[step]
        until(lambda: self.asked[step] > before, f"a request of {step}")
        started.kill_all()
        self._open[step].set()


def step_of(arrival: Arrival) -> str:
    content: str = json.loads(arrival.body)["messages"][-1]["content"]
    return content.partition(" ")[0].removesuffix(":")


def configure(place: Place, world: World) -> None:
    (place.folder / "config.toml").write_text(_CONFIG.replace("URL", world.server.url))
    place.write_rows(ROWS)


def figures(report: dict[str, Any]) -> list[tuple[int, ...]]:
    return [(each["rows"], each["failed"], each["left_out"], each["requests"]) for each in report["steps"]]


def test_each_step_asks_about_what_the_ones_before_have_answered(place: Place, server: Callable[..., Server]) -> None:
    world = World(server)
    world.bad = {("Draft", BAD), ("Judge", WORSE)}
    configure(place, world)
    done = place.run()
    assert done.code == 1, done.err

    passed = [row for row in range(ROWS) if row % 5 + 1 >= 3 and row not in (BAD, WORSE)]
    lines = {line["index"]: line for line in place.lines}
    assert list(lines) == sorted([*passed, BAD, WORSE]), "in order, without those that were left out"
    line = lines[passed[0]]
    assert (line["id"], line["output"], line["error"]) == (f"id-{passed[0]}", f"Title of {passed[0]}", None)
    assert line["input"].keys() == {"id", "text", "draft", "judge.score"}
    assert (line["input"]["draft"], line["input"]["judge.score"]) == (f"Draft of {passed[0]}", passed[0] % 5 + 1)

    assert [(each["index"], each["class"], each["step"]) for each in place.failed] == [
        (BAD, "invalid_request", "draft"),
        (WORSE, "invalid_request", "judge"),
    ]
    assert lines[BAD]["output"] is None
    assert "draft" not in lines[BAD]["input"]
    assert lines[WORSE]["input"]["draft"] == f"Draft of {WORSE}"

    # Nothing is asked about a row that has failed, or that was left out.
    left_out = ROWS - 2 - len(passed)
    assert figures(place.report) == [
        (ROWS, 1, 0, ROWS),
        (ROWS - 1, 1, left_out, ROWS - 1),
        (len(passed), 0, 0, len(passed)),
    ]
    assert world.asked == {"Draft": ROWS, "Judge": ROWS - 1, "Title": len(passed)}
    assert (place.report["totals"]["rows"], place.report["totals"]["failed"]) == (ROWS, 2)
    bodies = [json.loads(each.body) for each in world.server.arrivals if step_of(each) == "Title"]
    assert {body["model"] for body in bodies} == {"sim-large"}
    lines_of_cost = {
        (each["step"], each["model"], each["provider"]): each["spent"]["requests"]
        for each in place.report["cost"]["lines"]
    }
    assert {
        ("draft", "sim-small", "main"),
        ("judge", "sim-small", "other"),
        ("title", "sim-large", "main"),
    } <= lines_of_cost.keys()
    assert lines_of_cost["judge", "sim-small", "other"] == ROWS - 1
    assert sum(lines_of_cost.values()) == 2 * ROWS - 1 + len(passed)
    assert "left out" in done.err

    # What a step before the last has answered can be looked at, too.
    shown = place.start("--step", "judge", "--where", "score = 1", "--json", command="show").wait()
    found = [json.loads(line) for line in shown.out.splitlines()]
    assert [line["index"] for line in found] == [row for row in range(ROWS) if row % 5 == 0]
    assert "Judge Draft of 0 of row 000000" in found[0]["prompt"]["messages"][0]["content"]
    refused = place.start("--step", "jugde", command="show").wait()
    assert refused.code == 2
    assert "has no such step; there are draft, judge, title" in refused.err

    # A retry asks those again that have failed, and the steps behind them; nothing else.
    world.bad.clear()
    before = world.asked
    done = place.retry()
    assert done.code == 0, done.err
    new = [row for row in (BAD, WORSE) if row % 5 + 1 >= 3]
    assert world.asked - before == Counter({"Draft": 1, "Judge": 2, "Title": len(new)})
    assert [line["index"] for line in place.lines] == sorted([*passed, *new])
    assert place.failed == []


def expected(place: Place) -> bytes:
    """Return the output of a run that nothing befalls."""
    lines = []
    for row, line in enumerate(place.input.read_bytes().splitlines()):
        if (score := row % 5 + 1) < 3:
            continue
        answers = b'"draft":"Draft of %d","judge.score":%d' % (row, score)
        lines.append(
            b'{"index":%d,"id":"id-%d","output":"Title of %d","error":null,"finish_reason":"stop","model":"m",'
            b'"usage":%b,"input":%b,%b}}\n' % (row, row, row, USAGE, line[:-1], answers)
        )
    return b"".join(lines)


def test_a_kill_in_any_step_and_a_cap_over_all_of_them_change_no_byte(
    place: Place, server: Callable[..., Server]
) -> None:
    world = World(server)
    configure(place, world)
    world.killed_in("Judge", place.start())
    cap = world.asked.total() + 20
    assert place.run("--set", f"budget.max_requests={cap}").code == 3
    assert world.asked.total() <= cap
    world.killed_in("Title", place.start())
    done = place.run()
    assert done.code == 0, done.err
    assert place.output.read_bytes() == expected(place)
    passed = sum(row % 5 + 1 >= 3 for row in range(ROWS))
    twice = sum(session["billed_twice_max"] for session in place.report["sessions"])
    assert 2 * ROWS + passed <= world.asked.total() <= 2 * ROWS + passed + twice, "what was answered is asked once"
    assert [(rows, left_out) for rows, _, left_out, _ in figures(place.report)] == [
        (ROWS, 0),
        (ROWS, ROWS - passed),
        (passed, 0),
    ]
