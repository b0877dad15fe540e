"""Runs that an earlier release began, killed half way, and went to their end by this one.

How each of them is read is held by `tests/runs/test_begun.py`.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types
import pytest

from tests.end_to_end.conftest import Arrival, Place, Server

BEGUN = Path(__file__).parent / "begun"


def _reply(arrival: Arrival) -> tuple[int, dict[str, str], bytes]:
    message = {"role": "assistant", "content": f"reply {arrival.row}"}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
    return 200, {"content-type": "application/json"}, json.dumps(body).encode()


@pytest.mark.parametrize("name", ["one-column", "blank-end", "parquet"])
def test_a_run_of_an_earlier_release_goes_on_as_it_began(
    place: Place, server: Callable[..., Server], name: str
) -> None:
    """The output is what that release would have made, and nothing that was answered is asked again."""
    served = server(_reply)
    shutil.copytree(BEGUN / name, place.folder, dirs_exist_ok=True)
    configuration = place.folder / "config.toml"
    configuration.write_text(configuration.read_text().replace("{url}", served.url))
    failed = {"one-column": {2, 5, 8, 11}, "blank-end": set(range(14, 17)), "parquet": set()}[name]
    ended = place.run()
    assert ended.code == (1 if failed else 0), ended.err
    assert served.counts == dict.fromkeys(set(range(1, 14, 2)) - failed, 1)
    # Nothing of several steps is in the run directory of a run of one.
    assert not (place.run_dir / "steps").exists()
    for path in place.run_dir.rglob("*"):
        if path.is_file() and path.suffix != ".html":
            assert not {b'"step', b'"left_out', b'"win_rates'} & {
                *re.findall(rb'"[a-z]+(?:_[a-z]+)?', path.read_bytes())
            }
    for whole in place.folder.glob("whole-out*"):
        made = whole.with_name(whole.name.removeprefix("whole-"))
        if made.suffix == ".parquet":  # the bytes are those of one version of pyarrow
            assert pq.read_table(made).equals(pq.read_table(whole))
            assert pq.read_schema(made) == pq.read_schema(whole)
        else:
            assert made.read_bytes() == whole.read_bytes()
