"""Two runs side by side on terminals of any width."""

import pytest
from rich.cells import cell_len

from rowmill.interface.ui.compared_text import compared_text
from rowmill.runs.comparing import Agreement, Compared, Side

LONG = (
    "The soup arrived cold so that the guest waited for half an hour and left "
    "without a single word to anybody who was there"
)


def compared(one: str, other: str) -> Compared:
    return Compared(
        sides=(Side(run_dir="a.run", rows=2, prompt_tokens=1500, completion_tokens=1700), Side(run_dir="b.run")),
        whole=Agreement(2, 1),
        differing=[({"index": 0, "id": 0, "output": one}, {"index": 0, "id": 0, "output": other})],
    )


def test_what_differs_is_told_in_lines_below_each_other() -> None:
    shown = compared_text(compared(LONG, LONG.replace("half", "quarter of").replace("cold", "hot")), 60)
    assert shown[shown.index("row 0") :].splitlines() == [
        "row 0",
        "  A  The soup arrived [cold] so that the guest waited for",
        "     [half] an hour and left without a ... word to anybody",
        "     who was there",
        "  B  The soup arrived [hot] so that the guest waited for",
        "     [quarter of] an hour and left without a ... word to",
        "     anybody who was there",
    ]


@pytest.mark.parametrize("width", [10, 40, 60, 100])
def test_no_text_is_wider_than_the_terminal(width: int) -> None:
    shown = compared_text(compared("\u6f22\u5b57" * 90, f"x{'y' * 300} z"), width)
    assert max(cell_len(line) for line in shown[shown.index("row 0") :].splitlines()) <= max(width, 25)


def test_colour_repeats_the_brackets_and_the_table_names_its_figures() -> None:
    shown = compared_text(compared("a b", "a c"), colour=True)
    assert "\x1b[1mrow 0\x1b[0m\n  A  a \x1b[31m[b]\x1b[0m\n  B  a \x1b[32m[c]\x1b[0m" in shown
    assert shown.splitlines()[:12] == [
        "  A        a.run",
        "  B        b.run",
        "",
        "                             A      B",
        "  rows                       2      0",
        "  failed                     0      0",
        "  cost                       -      -",
        "  tokens in + out  1.5k + 1.7k  0 + 0",
        "  latency p50                -      -",
        "  latency p90                -      -",
        "  latency p99                -      -",
        "",
    ]
