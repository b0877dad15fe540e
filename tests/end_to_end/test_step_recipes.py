"""The recipes of several steps at a server that reads what it is asked, over rows as they come in practice."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rowmill.interface.cli import recipes
from tests.end_to_end.conftest import Arrival, Done, Place, Server

OPTIONS = ("--set", "output.path=out.jsonl", "--set", "workers.count=1", "--set", "retry.attempts=1")
NOBODY = -1  # the row of a request that names none, as of a text that is empty


class World:
    """A server that answers each step as a test says."""

    def __init__(self, server: Callable[..., Server], answer: Callable[[str, int, str], Any]) -> None:
        """`answer`: of the step, the row and the text that is asked; an object becomes JSON, a number is a status."""
        self._answer = answer
        self.steps: dict[str, str] = {}  # words of a step's prompts -> its name
        self.server = server(self._decide)

    def _decide(self, arrival: Arrival) -> tuple[int, dict[str, str], bytes]:
        # Where an answer is asked for again, the question is not what stands last.
        messages = json.loads(arrival.body)["messages"]
        content = next(message["content"] for message in messages if message["role"] == "user")
        row = int(content.partition("row ")[2][:6] or NOBODY)
        said = self._answer(self.step_of(arrival), row, content)
        if isinstance(said, int):
            return said, {}, b'{"error":{"message":"not this one","code":"odd"}}'
        text = said if isinstance(said, str) else json.dumps(said)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        reply = {"id": "r", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        return 200, {}, json.dumps({**reply, "usage": usage}).encode()

    def step_of(self, arrival: Arrival) -> str:
        """Tell the step by words of its prompts."""
        messages = json.loads(arrival.body)["messages"]
        text = "\n".join(message["content"] for message in messages)
        return next(name for words, name in self.steps.items() if words in text)

    @property
    def asked(self) -> Counter[str]:
        """How many requests of each step have come."""
        return Counter(map(self.step_of, self.server.arrivals))


def begin(
    place: Place, recipe: str, world: World, rows: Sequence[dict[str, Any]], sample: str, *options: str, **steps: str
) -> Done:
    """Write a recipe over these rows in the place of its sample, and run it. steps: words of each one's prompts."""
    world.steps = {words: name for name, words in steps.items()}
    recipes.write(recipe, place.folder)
    path = place.folder / "config.toml"
    text = path.read_text(encoding="utf-8").replace('"simulator"', f'"{world.server.url}"')
    path.write_text(text.replace(sample, "in.jsonl"), encoding="utf-8")
    place.write_lines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
    return place.run(*OPTIONS, *options)


def failures(place: Place) -> list[tuple[int, str, str]]:
    return [(each["index"], each["class"], each["step"]) for each in place.failed]


def test_a_judge_counts_who_wins_whatever_befalls_single_rows(place: Place, server: Callable[..., Server]) -> None:
    # Of each row what the judge says, and what the judge of the other order says.
    verdicts: list[tuple[Any, Any]] = [
        ("first", "second"),
        ("second", "first"),
        ("first", "first"),
        ("tie", "tie"),
        ("first", "tie"),
        ("unsure", "first"),  # after three tries
        (400, "first"),
        ("first", 500),
        ("First", "second"),  # not one of the schema's words: asked again, and then it is
        ("first", "second"),
    ]
    tries: Counter[tuple[str, int]] = Counter()

    def answer(step: str, row: int, text: str) -> Any:
        tries[step, row] += 1
        if step in ("plain", "example"):
            return 400 if row == NOBODY or (step, row) == ("example", 10) else f"{step} of row {row:06d}: {text[:12]}"
        assert text.index("plain of") < text.index("example of") if step == "judge" else True
        said = verdicts[row][step == "swapped"]
        if isinstance(said, int):
            return said
        word = said.lower() if tries[step, row] > 1 else said
        return {"reason": "так лучше", "winner": word}

    world = World(server, answer)
    rows: list[dict[str, Any]] = [{"id": f"Q-{row}", "question": f"row {row:06d}: wozu?"} for row in range(11)]
    rows[9]["question"] = "row 000009: なぜ空は青いのですか\u2028?"
    rows += [{"id": "Q-11"}, {"id": "Q-12", "question": ""}]
    done = begin(
        place, "judge", world, rows, "questions.jsonl",
        judge="first answer:\nplain", swapped="first answer:\nexample", example="example.", plain="a sentence or two",
    )  # fmt: skip
    assert done.code == 1, done.err
    assert [line["index"] for line in place.lines] == list(range(13))
    assert failures(place) == [
        (5, "invalid_output", "judge"),
        (6, "invalid_request", "judge"),
        (7, "server_error", "swapped"),
        (10, "invalid_request", "example"),
        (11, "invalid_row", "plain"),
        (12, "invalid_row", "plain"),
    ]
    assert place.lines[9]["input"]["plain"] == "plain of row 000009: row 000009: "
    assert place.lines[9]["output"] == {"reason": "так лучше", "winner": "second"}
    (rates,) = place.report["win_rates"]
    assert (rates["between"], rates["judges"]) == (["plain", "example"], ["judge", "swapped"])
    assert (rates["rows"], rates["unreadable"], rates["incomplete"]) == (7, 1, 2)
    assert [each["rows"] for each in (*rates["wins"], rates["ties"])] == [3, 1, 3]
    assert (rates["in_both_orders"], rates["better"]) == ([1, 0], None)
    assert "wins     plain 42.9%" in done.err
    assert "neither is shown to be better: plain has 75.0%" in done.err
    assert world.asked == {"plain": 11, "example": 11, "judge": 13, "swapped": 8}

    # Failed rows are asked again, from where they have failed on, and the counts are those of all rows.
    verdicts[5:8] = [("first", "second")] * 3
    assert place.retry(*OPTIONS).code == 1
    (rates,) = place.report["win_rates"]
    assert (rates["rows"], rates["unreadable"], rates["incomplete"]) == (10, 0, 0)
    assert [each["rows"] for each in (*rates["wins"], rates["ties"])] == [6, 1, 3]

    # Who wins can be asked for, and not, without asking anybody else.
    asked = len(world.server.arrivals)
    done = place.run(*OPTIONS, "--set", "step.swapped.compares=[]")
    assert (done.code, len(world.server.arrivals)) == (1, asked)
    (rates,) = place.report["win_rates"]
    assert (rates["judges"], rates["in_both_orders"]) == (["judge"], None)


def test_pairs_that_do_not_hold_are_left_out(place: Place, server: Callable[..., Server]) -> None:
    known = {2}  # what everybody knows

    def answer(step: str, row: int, text: str) -> Any:
        match step:
            case "pair":
                if row == 5:
                    return 400
                made = "nothing at all" if row == 3 else text.partition("row ")[2][len("000000: ") :]
                return {"question": f"row {row:06d}: 何?", "answer": made}
            case "guess":
                if row == 6:
                    return 400
                return f"row {row:06d}: {'sure' if row in known else 'I do not know'}"
        passage, _, rest = text.partition("\n\nThe question: ")
        said = rest.partition("\nThe answer: ")[2].partition("\n")[0]
        holds = bool(said) and said in passage
        return {"why": "so", "holds": holds, "score": 1 if "sure" in rest else 5}

    world = World(server, answer)
    rows: list[dict[str, Any]] = [{"id": row, "title": f"row {row:06d}", "text": f"Passage {row}"} for row in range(9)]
    rows[1]["text"] = "昔々、\u202eあるところに。"
    rows[4]["text"] = ""
    del rows[7]["text"]
    rows[8]["text"] = None
    done = begin(
        place, "qa", world, rows, "passages.jsonl",
        pair="The passage:\n\nrow", guess="Answer in a sentence", judge="The passage:\n",
    )  # fmt: skip
    assert done.code == 1, done.err
    assert failures(place) == [
        (5, "invalid_request", "pair"),
        (6, "invalid_request", "guess"),
        (7, "invalid_row", "pair"),
    ]
    kept = {line["index"]: line for line in place.lines if line["error"] is None}
    assert kept.keys() == {0, 1}, "2 is known, 3 is made up, 4 and 8 say nothing"
    assert kept[1]["input"]["pair.answer"] == rows[1]["text"]
    assert kept[1]["output"] == {"why": "so", "holds": True, "score": 5}
    figures = {step["name"]: (step["rows"], step["failed"], step["left_out"]) for step in place.report["steps"]}
    assert figures == {"pair": (9, 2, 0), "guess": (7, 1, 0), "judge": (6, 0, 4)}


def test_what_was_lost_on_the_way_back_is_left_out(place: Place, server: Callable[..., Server]) -> None:
    def answer(step: str, row: int, text: str) -> Any:
        head, _, body = text.partition("\n\n")
        match step:
            case "translation":
                return 400 if row == 4 else f"[{head.split()[-1]}] {body or 'there is no text, row 000005'}"
            case "back":
                if row == 3:
                    return 400
                return body.partition("] ")[2].replace("12 cm", "12 inches")
        original, back = text.removeprefix("The text:\n").split("\n\nWhat came back:\n")
        same = original == back
        return {"same": same, "score": 5 if same else 2, "lost": None if same else "cm"}

    world = World(server, answer)
    texts = ["row 000000: 9 cm", "row 000001: 12 cm", "row 000002: 長さ", "row 000003: x", "row 000004: y", ""]
    rows = [
        {"sku": f"A-{row}", "source": "English", "language": "Deutsch", "text": text} for row, text in enumerate(texts)
    ]
    rows[2] |= {"source": "Japanese", "language": "Ελληνικά"}
    done = begin(
        place, "back-translation", world, rows, "products.csv",
        "--set", "step.check.where=same = true and score >= 4",
        check="What came back", back="as closely as you can", translation="online shop",
    )  # fmt: skip
    assert done.code == 1, done.err
    assert failures(place) == [(3, "invalid_request", "back"), (4, "invalid_request", "translation")]
    lines = {line["index"]: line for line in place.lines}
    assert list(lines) == [0, 2, 3, 4], "what is good, and what has failed"
    assert lines[2]["input"]["translation"] == "[Ελληνικά:] row 000002: 長さ"
    assert lines[0]["output"] == {"same": True, "score": 5, "lost": None}
    assert lines[3]["input"]["translation"] == "[Deutsch:] row 000003: x"
    assert place.report["steps"][2]["left_out"] == 2, "one with other units, and one without a text"
