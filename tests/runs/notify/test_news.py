"""What is told: the facts, and a line of them that can be shown anywhere."""

import msgspec
import pytest

from rowmill.core.reports import RunReport, SessionReport
from rowmill.runs.notify.news import of_end, of_snapshot
from tests.runs.notify.news_of_a_run import REPORT, SESSION, SNAPSHOT, STOPPED, SUBJECT, UNFINISHED


@pytest.mark.parametrize(
    ("report", "session", "event", "code", "text"),
    [
        (REPORT, SESSION, "end", 1, "out.jsonl is done: 1,000 rows, 3 of them failed; 0:12:34; $1.23"),
        (
            UNFINISHED,
            STOPPED,
            "stop",
            3,
            "out.jsonl stopped with exit code 3: budget.max_usd: $1.00 is used up; 812 of 1,000 rows are done; $1.23",
        ),
        (
            msgspec.structs.replace(UNFINISHED, rows=None, cost=None),
            msgspec.structs.replace(SESSION, exit_code=130, stopped_by=None),
            "stop",
            130,
            "out.jsonl stopped with exit code 130: before its end; 812 rows are done",
        ),
    ],
)
def test_an_end_and_a_stop_say_what_became_of_the_run(
    report: RunReport, session: SessionReport, event: str, code: int, text: str
) -> None:
    news = of_end(SUBJECT, report, session)
    assert (news.event, news.exit_code, news.text) == (event, code, f"Rowmill: {text}")
    assert (news.run, news.output, news.run_dir, news.failed) == ("run-1", "out.jsonl", "out.jsonl.run", 3)
    assert news.why == session.stopped_by


def test_news_of_a_run_that_goes_on_say_how_far_it_is() -> None:
    news = of_snapshot(SUBJECT, "budget", "80% of it is used up", SNAPSHOT)
    assert news.text == "Rowmill: out.jsonl: 80% of it is used up; 700 of 1,000 rows are done"
    assert (news.rows, news.total_rows, news.exit_code, news.usd) == (700, 1000, None, None)


def test_what_files_are_called_and_servers_say_is_one_line_of_bounded_length() -> None:
    evil = "\x1b]0;owned\x07\r\n\udcff\0" + "long " * 1000
    news = of_end(SUBJECT._replace(output="o\udcff\n"), UNFINISHED, msgspec.structs.replace(STOPPED, stopped_by=evil))
    assert news.text.isprintable()
    assert len(news.text.encode()) <= 1024
    assert news.output == "o\\udcff "
    assert msgspec.json.decode(msgspec.json.encode(news))["output"] == news.output
