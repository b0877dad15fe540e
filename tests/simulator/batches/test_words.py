"""Every word of the scripts is read as the table says, and every other is refused with the nearest right one."""

import re

import pytest

from rowmill.simulator.batches import words
from rowmill.simulator.batches.words import Script


@pytest.mark.parametrize(
    ("item", "script"),
    [
        ("ok", Script()),
        ("expired", Script(expires_at=0.6)),
        ("expired:0.25", Script(expires_at=0.25)),
        ("failed", Script(failed="invalid_json_line")),
        ("failed:token_limit_exceeded", Script(failed="token_limit_exceeded")),
        ("failed:invalid_json_line:line=7", Script(failed="invalid_json_line", line=7)),
        ("all_failed", Script(all_failed=True)),
        ("all_failed+empty_ids", Script(all_failed=True, empty_ids=True)),
        ("stuck", Script(stuck="in_progress", stuck_at=0.5)),
        ("stuck:0.1", Script(stuck="in_progress", stuck_at=0.1)),
        ("stuck:validating", Script(stuck="validating")),
        ("stuck:cancelling", Script(stuck="cancelling")),
        ("create_lost+expired:1", Script(answer="lost", expires_at=1.0)),
        ("create_late:1.5", Script(answer="lost", late_s=1.5)),
        ("create_500", Script(answer="500")),
        ("content_502", Script(content="502")),
        ("content_cut", Script(content="cut")),
        ("gone", Script(gone=True)),
    ],
)
def test_a_word_of_a_batch_is_read(item: str, script: Script) -> None:
    assert words.batch_script(item) == script


@pytest.mark.parametrize(
    ("item", "script"),
    [
        ("ok", Script()),
        ("upload_lost", Script(answer="lost")),
        ("upload_500", Script(answer="500")),
        ("upload_403", Script(answer="403")),
        ("upload_slow:0.2+upload_lost", Script(answer="lost", slow_s=0.2)),
    ],
)
def test_a_word_of_an_upload_is_read(item: str, script: Script) -> None:
    assert words.upload_script(item) == script


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ("expire", "did you mean 'expired'"),
        ("", "unknown word ''"),
        ("ok+upload_lost", "unknown word 'upload_lost'"),
        ("expired:1.5", "no share from 0 to 1"),
        ("expired:much", "no share from 0 to 1"),
        ("stuck:soon", "no share from 0 to 1"),
        ("failed:x:7", "write it as failed:CODE:line=N"),
        ("failed:x:line=a", "write it as failed:CODE:line=N"),
        ("create_late", "seconds must follow"),
        ("create_late:-1", "seconds must follow"),
        ("create_late:inf", "seconds must follow"),
        ("gone:1", "nothing may follow it"),
    ],
)
def test_another_word_is_refused(item: str, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        words.batch_script(item)


def test_the_documentation_has_every_word() -> None:
    assert words.__doc__ is not None
    for name in (*words._OF_BATCHES, *words._OF_FILES, *words.LINE_FAULTS):
        assert re.search(rf"\b{name}\b", words.__doc__), name
