"""`rowmill compare`: two runs held against each other, row by row."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.end_to_end.conftest import Arrival, Done, Place, Server
from tests.end_to_end.several import Answer

SCHEMA = {
    "type": "object",
    "properties": {"topic": {"type": "string"}, "score": {"type": "integer"}},
    "required": ["topic", "score"],
    "additionalProperties": False,
}


def compared(place: Place, *arguments: str) -> Done:
    words = ["other.toml", *arguments]
    return place.start(*words, command="compare").wait(20)


def test_two_runs_of_the_same_rows(place: Place, server: Callable[..., Server]) -> None:
    """The second one has another topic for each third row, and row 4 fails there."""
    now = {"other": False}

    def decide(arrival: Arrival) -> Answer:
        if now["other"] and arrival.row == 4:
            return 403, {}, b'{"error":{"message":"not for you","type":"forbidden"}}'
        topic = "art" if now["other"] and arrival.row % 3 == 0 else "sport"
        reply = {
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": json.dumps({"topic": topic, "score": 3})},
                    "finish_reason": "stop",
                }
            ],
            "model": "sim-small",
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }
        return 200, {"content-type": "application/json"}, json.dumps(reply).encode()

    place.configure(server(decide).url)
    (place.folder / "schema.json").write_text(json.dumps(SCHEMA))
    with (place.folder / "config.toml").open("a") as file:
        file.write('[prices."sim-small"]\ninput = 1.0\noutput = 2.0\n')
    text = (place.folder / "config.toml").read_text().replace("[output]", 'schema = "schema.json"\n[output]')
    (place.folder / "config.toml").write_text(text)
    (place.folder / "other.toml").write_text(text.replace("out.jsonl", "other.jsonl"))
    place.write_rows(30)
    assert (first := place.run()).code == 0, first.err
    now["other"] = True
    assert _run_other(place).code == 1
    done = compared(place, "--limit", "2")
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines()]
    assert ["rows", "30", "30"] in lines
    assert ["failed", "0", "1"] in lines
    assert "19 of 29 the same (65.5%) of the rows that both have answered" in done.out
    assert "score: 29 of 29 the same (100.0%)" in done.out
    assert "topic: 19 of 29 the same (65.5%)" in done.out
    shown = done.out[done.out.index("row 0") :]
    assert shown.splitlines() == [
        "row 0  id id-0",
        '  A  [{"topic":"sport","score":3}]',
        '  B  [{"topic":"art","score":3}]',
        "",
        "row 3  id id-3",
        '  A  [{"topic":"sport","score":3}]',
        '  B  [{"topic":"art","score":3}]',
    ]
    told = json.loads(compared(place, "--json").out)
    assert [side["usd"] for side in told["sides"]] == [30 * 20 / 1e6, 29 * 20 / 1e6]
    assert (told["common"], told["whole"], told["only"]) == (29, {"both": 29, "same": 19}, [0, 0])
    assert [pair[0]["index"] for pair in told["differing"]] == [0, 3, 4, 6, 9]
    made = compared(place, "--html", "both.html")
    assert (made.code, made.out, made.err) == (0, "", "rowmill: the page is in both.html\n")
    page = (place.folder / "both.html").read_text()
    facts = json.loads(page.partition(' id="facts">')[2].partition("</script>")[0])
    assert (facts["kind"], facts["whole"]["same"], len(facts["differing"])) == ("compare", 19, 11)
    assert compared(place, "--html", "both.html", "--json").code == 2


def _run_other(place: Place) -> Done:
    config = place.folder / "config.toml"
    text = config.read_text()
    config.write_text((place.folder / "other.toml").read_text())
    try:
        return place.run()
    finally:
        config.write_text(text)


def test_trials_of_other_rows_are_paired_by_their_ids(place: Place, server: Callable[..., Server]) -> None:
    place.configure(server(lambda _: None).url)
    place.write_rows(40)
    assert place.run().code == 0
    assert place.run("--sample", "6").code == 0
    (trial,) = Path(place.folder).glob("*trial*.run")
    done = place.start(str(trial), command="compare").wait(20)
    assert "6 of 6 the same (100.0%) of the rows that both have answered" in done.out, done.err
    assert "34 rows have an outcome in A alone" in done.out
    none = place.start("nowhere.run", command="compare").wait(20)
    assert (none.code, none.out) == (2, "")
