"""A pydantic model as the schema of a run: asked for, its validators heard, and what they refuse shown to the model."""

import json
from collections.abc import Callable
from typing import Any

from tests.end_to_end.conftest import Arrival, Place, Server

SHOP = '''
"""The user's own models."""
import enum
from datetime import date
from pydantic import BaseModel, model_validator

class Kind(enum.Enum):
    KITCHEN = "kitchen"
    GARDEN = "garden"

class Item(BaseModel):
    kind: Kind
    price: float
    note: str
    sold: date | None = None

    @model_validator(mode="after")
    def positive(self):
        if self.price <= 0:
            raise ValueError(f"no price in {self.note}")
        return self
'''


def reply(content: object) -> tuple[int, dict[str, str], bytes]:
    message = {"role": "assistant", "content": json.dumps(content)}
    body = {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return 200, {}, json.dumps({**body, "usage": {"prompt_tokens": 5, "completion_tokens": 5}}).encode()


def test_what_a_models_validators_refuse_is_asked_again_and_then_fails(
    place: Place, server: Callable[..., Server]
) -> None:
    def item(row: int, price: float) -> dict[str, Any]:
        # The server finds the row in the last message, which tells of a second try what was wrong.
        return {"kind": "garden", "price": price, "note": f"row {row:06d}", "sold": "2026-01-02"}

    def decide(arrival: Arrival) -> tuple[int, dict[str, str], bytes]:
        # Row 0 is answered at once, row 1 at the second time, row 2 never.
        right = arrival.row == 0 or (arrival.row == 1 and arrival.nth > 1)
        return reply(item(arrival.row, 2.5 if right else -1))

    witness = server(decide)
    place.configure(witness.url)
    (place.folder / "shop.py").write_text(SHOP)
    place.write_lines(json.dumps({"id": n, "text": f"row {n:06d}"}).encode() + b"\n" for n in range(3))
    done = place.run("--set", "task.schema=shop:Item", "--set", "retry.invalid_output=2")
    assert done.code == 1, done.err
    lines = place.lines
    assert [line["output"] for line in lines] == [item(0, 2.5), item(1, 2.5), None]
    assert lines[2]["error"]["class"] == "invalid_output"
    assert lines[2]["error"]["message"].endswith("Value error, no price in row 000002")
    (failed,) = place.failed
    assert json.loads(failed["reply"]) == item(2, -1), "the reply is kept"
    assert witness.counts == {0: 1, 1: 2, 2: 2}
    bodies = [json.loads(arrival.body) for arrival in witness.arrivals]
    sent = bodies[0]["response_format"]["json_schema"]
    assert (sent["name"], sent["strict"], sent["schema"]["required"]) == (
        "Item",
        True,
        ["kind", "price", "note", "sold"],
    )
    again = next(body for body in bodies if len(body["messages"]) > 1)
    assert "Value error, no price in row " in again["messages"][-1]["content"]


def test_a_model_that_cannot_be_had_ends_the_command_before_anything_is_asked(place: Place) -> None:
    place.configure("http://127.0.0.1:9/v1")
    place.write_rows(1)
    (place.folder / "shop.py").write_text(SHOP)
    done = place.run("--set", "task.schema=shop:Itme")
    assert (done.code, done.lines) == (
        2,
        ["rowmill: task.schema: shop:Itme: module shop has no Itme; did you mean Item?"],
    )
    assert not place.run_dir.exists()
