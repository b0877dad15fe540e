"""Steps whose answers are odd, and steps that pack their rows, keep their replies, and are asked otherwise later."""

import json
from collections import Counter
from collections.abc import Callable

from tests.end_to_end.conftest import Arrival, Place, Server

ROWS = 18
USAGE = b'{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}'
DRAFTS = ["", " ", "null", "a\u2028b\x00c", "{braces} {{x}}", 'say "x"\\ ', "\N{GRINNING FACE}", "x" * 300_000, "a\r\n"]
NOTES = ['{"score":null}', "{}", '{"score":3,"odd key":"v"}', '{"score":5}', '{"score": 3, "more": [1]}']
_SETTINGS = """
[input]
path = "in.jsonl"
id = "id"
[task]
model = "sim-small"
[output]
path = "out.jsonl"
[[provider]]
base_url = "URL"
timeout_s = 20
[workers]
count = 1
[checkpoint]
commit_ms = 20
"""
_ODD = """
[[provider]]
name = "other"
base_url = "URL"
[[step]]
name = "draft"
provider = "default"
prompt = "Draft: {text}"
[[step]]
name = "note"
provider = "default"
prompt = "Note {draft}|{text}"
schema = { type = "object", properties = { score = { type = ["integer", "null"] }, "odd key" = { type = "string" } } }
where = "score != 5"
[[step]]
name = "title"
provider = "other"
prompt = "Title {draft}|{note.score}|{note.odd key}|{text}"
"""
_PACKED = """
[cache]
use = "disk"
dir = "cache"
[[step]]
name = "draft"
prompt = "About {text}"
rows_per_request = 4
where = "id != id-5"
[[step]]
name = "title"
prompt = "{draft}"
"""


def test_whatever_a_step_answers_is_what_the_next_one_reads(place: Place, server: Callable[..., Server]) -> None:
    answered: Counter[tuple[str, int]] = Counter()
    refuses = True

    def answer(arrival: Arrival) -> tuple[int, dict[str, str], bytes]:
        asked = content_of(arrival)
        said = "title"
        if asked.startswith("Title") and refuses:
            return 401, {}, b'{"error":{"message":"no such key"}}'
        answered[asked[:4], arrival.row] += 1
        if asked.startswith("Draft"):
            said = DRAFTS[arrival.row % len(DRAFTS)]
        elif asked.startswith("Note"):
            said = NOTES[arrival.row % len(NOTES)]
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        reply = {"id": "r", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        return 200, {}, json.dumps(reply).encode()[:-1] + b', "usage": %b}' % USAGE

    world = server(answer)
    (place.folder / "config.toml").write_text((_SETTINGS + _ODD).replace("URL", world.url))
    place.write_rows(ROWS)
    done = place.run()
    assert done.code == 4, done.err
    assert "no such key" in done.err
    # A step whose provider is of no use stops the run, which goes on once it is, and asks nothing that was answered.
    refuses = False
    done = place.run()
    assert done.code == 0, done.err
    assert set(answered.values()) == {1}
    left = [row for row in range(ROWS) if row % len(NOTES) == 3]
    assert f"out.jsonl: {ROWS - len(left)} of {ROWS} rows; {len(left)} are left out" in done.err
    assert [line["index"] for line in place.lines] == [row for row in range(ROWS) if row not in left]
    asked = {(content_of(each)[:4], each.row): content_of(each) for each in world.arrivals}
    for line in place.lines:
        row, read = line["index"], line["input"]
        note = json.loads(NOTES[row % len(NOTES)])
        score, key = note.get("score"), note.get("odd key")
        assert (read["draft"], read["note.score"], read["note.odd key"]) == (DRAFTS[row % len(DRAFTS)], score, key)
        shown = "" if score is None else score
        assert asked["Titl", row].startswith(f"Title {read['draft']}|{shown}|{key or ''}|row {row:06d}"), row

    # Who looks for a row that was left out is told which step has it.
    shown = place.start("--where", "note.score = 5", command="show").wait()
    assert "no such row has an outcome; left out were 3 by step note: show --step note has them" in shown.err
    shown = place.start("--step", "note", "--where", "score = 5", "--json", command="show").wait()
    assert [json.loads(line)["index"] for line in shown.out.split("\n")[:-1]] == left


def content_of(arrival: Arrival) -> str:
    content: str = json.loads(arrival.body)["messages"][-1]["content"]
    return content


def test_a_step_packs_its_rows_and_what_it_has_answered_is_not_paid_again_for_a_change_behind_it(place: Place) -> None:
    (place.folder / "config.toml").write_text(_SETTINGS.replace("URL", "simulator") + _PACKED)
    place.write_rows(ROWS)
    done = place.run()
    assert done.code == 0, done.err
    assert [line["index"] for line in place.lines] == [row for row in range(ROWS) if row != 5]
    draft, title = place.report["steps"]
    assert (draft["rows"], draft["left_out"], draft["requests"] < ROWS) == (ROWS, 1, True)
    assert (title["rows"], title["requests"]) == (ROWS - 1, ROWS - 1)
    before = [line["input"]["draft"] for line in place.lines]

    done = place.run("--set", 'step.title.prompt="anew {draft}"', "--fresh")
    assert done.code == 0, done.err
    assert [line["input"]["draft"] for line in place.lines] == before
    assert [step["requests"] for step in place.report["steps"]] == [0, ROWS - 1]
