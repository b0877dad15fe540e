"""The page of a report in a real Chromium: what it shows is what the document says, whatever that is."""

import hashlib
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from rowmill.core.win_rates import FIRST, SECOND, TIE, UNREADABLE, counted
from rowmill.interface.ui.report_page import SHELL
from rowmill.interface.ui.report_page import page as shell_with
from rowmill.runs.report.compared import ComparedDocument
from rowmill.runs.report.document import RunDocument
from tests.interface.ui.chromium import Viewer, in_chromium
from tests.interface.ui.compare_document import compared
from tests.interface.ui.odd_documents import ODD
from tests.interface.ui.page_documents import LONG, SCRIPT, report

AS_PUBLISHED = {
    "d3.min.js": "f2094bbf6141b359722c4fe454eb6c4b0f0e42cc10cc7af921fc158fceb86539",
    "plot.min.js": "4358086467740777dd788d6b27a95cebdbaefdd50c730a3060117073bd7134cb",
}
PHONE, DESK = 360, 1280  # px

MIXED = ("whole", "no price is known", "only batches", "a cluster", "hostile texts", "compared")  # all kinds of texts

# What a page is held against whatever it shows: how far it reaches to the right, and texts of charts that are cut off.
REACH = """() => ({
    over: document.documentElement.scrollWidth - window.innerWidth,
    cut: [...document.querySelectorAll(".plot text")].filter((text) => {
        const box = text.getBoundingClientRect();
        return box.width && (box.left < -1 || box.right > window.innerWidth + 1);
    }).map((text) => text.textContent),
})"""

# Texts with less contrast than WCAG AA asks for: 4.5 to 1, of large ones 3 to 1.
PALE = """() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const seen = new Map();
    const rgba = (colour) => {
        if (!seen.has(colour)) {
            canvas.clearRect(0, 0, 1, 1);
            canvas.fillStyle = colour;
            canvas.fillRect(0, 0, 1, 1);
            const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
            seen.set(colour, [r, g, b, a / 255]);
        }
        return seen.get(colour);
    };
    const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
    const ground = (element) => {
        const own = rgba(getComputedStyle(element).backgroundColor);
        if (own[3] === 1) return own;
        return over(own, element.parentElement ? ground(element.parentElement) : [255, 255, 255, 1]);
    };
    const light = (colour) => {
        const [r, g, b] = colour.map((part) => part / 255)
            .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const pale = [];
    const judge = (text, colour, element) => {
        const style = getComputedStyle(element);
        const behind = ground(element.closest("svg")?.parentElement ?? element);
        const [a, b] = [light(over(rgba(colour), behind)), light(behind)].sort((x, y) => y - x);
        const size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < (large ? 3 : 4.5)) pale.push(`${text.slice(0, 40)}: ${ratio.toFixed(2)}`);
        return 1;
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let judged = 0;
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || element.closest("script, style, noscript, title")) continue;
        if (!element.checkVisibility()) continue;
        const style = getComputedStyle(element);
        judged += judge(walker.currentNode.textContent, element.closest("svg") ? style.fill : style.color, element);
    }
    for (const input of document.querySelectorAll("input[placeholder]")) {
        judge(input.placeholder, getComputedStyle(input, "::placeholder").color, input);
    }
    return { pale, judged };
}"""


def judged(viewer: Viewer, name: str) -> None:
    """Look at what is drawn of a document: on a phone and on a desk, light and dark."""
    page = viewer.page
    drawn = page.evaluate("window.innerWidth")
    for width in (
        drawn,
        DESK if drawn == PHONE else PHONE,
    ):  # as wide as the last one was left: that is not drawn twice
        viewer.resize(width)
        assert (name, width, page.evaluate(REACH)) == (name, width, {"over": 0, "cut": []})
    for theme in ("light", "dark") if name in MIXED else ():
        page.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
        found = page.evaluate(PALE)
        assert (name, theme, found["pale"]) == (name, theme, [])
        assert found["judged"] > 10
    ids = page.locator("[id]").evaluate_all("(all) => all.map((each) => each.id)")
    assert len(ids) == len(set(ids))
    labels = page.locator(".plot svg").evaluate_all("(all) => all.map((svg) => [svg.role, svg.ariaLabel])")
    assert all(role == "img" and label for role, label in labels)
    assert page.locator("h1").count() == 1
    assert "NaN" not in page.inner_text("main")
    assert "undefined" not in page.inner_text("main")


@in_chromium
def test_every_document_is_drawn_on_a_phone_and_on_a_desk_and_can_be_read(viewer: Viewer) -> None:
    for name, document in {"whole": report(), **ODD}.items():
        viewer.draw(document)
        judged(viewer, name)
    viewer.show(compared())
    judged(viewer, "compared")


def test_the_documents_are_what_the_report_makes() -> None:
    for document in [report(), *ODD.values()]:
        assert members(msgspec.to_builtins(msgspec.convert(document, RunDocument))) == members(document)
    assert members(msgspec.to_builtins(msgspec.convert(compared(), ComparedDocument))) == members(compared())


def members(value: Any) -> Any:
    """Return the names of all members, deeply."""
    if isinstance(value, dict):
        return {name: members(each) for name, each in value.items()}
    return [members(each) for each in value if isinstance(each, dict)] if isinstance(value, list | tuple) else None


@in_chromium
def test_the_figures_are_those_of_the_document(viewer: Viewer) -> None:
    document = report()
    viewer.draw(document)
    totals, cost, line = document["totals"], document["cost"], document["timeline"]
    assert viewer.text("h1") == f"{totals['done']:,} of 60,000 rows done, {totals['failed']:,} of them failed"
    assert viewer.text(".words") == "stopped: budget.max_usd of $14.00 is reached"
    assert viewer.text(".next code") == "rowmill run config.toml"
    tiles = dict(zip(viewer.texts(".tile dt"), viewer.texts(".tile strong"), strict=True))
    assert tiles == {
        "Rows done": f"{totals['done']:,}",
        "Failed": f"{totals['failed']:,}",
        "Time at work": "2 min",
        "Cost": f"${cost['usd']:.2f}",
        "Saved": "$0.12",
        "Requests": f"{totals['requests']:,}",
        "Tokens": tiles["Tokens"],
        "Billed twice": "≤ 61",
    }
    used = f"{int((cost['usd'] + cost['lost_usd']) / cost['max_usd'] * 1000) / 10}%"
    assert (
        viewer.text("[data-tile=Cost] .below")
        == f"{used} of the cap of $14.00; ${cost['projected_usd']:.2f} for all rows"
    )
    assert viewer.page.get_by_role("progressbar").get_attribute("aria-valuenow") == str(totals["done"])
    # Over time: a column of a table for each line of a chart; their sums are those of the columns.
    legend = viewer.texts("[data-chart=faults] .legend li")
    assert legend == sorted(legend, key=lambda text: -int(text.split()[-1].replace(",", "")))
    assert {text.split()[0]: int(text.split()[-1].replace(",", "")) for text in legend} == {
        name: sum(column) for name, column in line["faults"].items()
    }
    assert viewer.texts("[data-chart=tokens] .legend .figure") == [
        f"{sum(line[name]):,}" for name in ("prompt_tokens", "completion_tokens")
    ]
    rows = numbers_of(viewer, "rows", column=2)
    seconds = numbers_of(viewer, "rows", column=1)
    assert sum(map(lambda rate, length: rate * length, rows, seconds)) == pytest.approx(totals["done"], rel=0.03)
    events = cells_of(viewer, "details[data-key=events]")
    assert [(event[0], event[1].split()[0], event[4]) for event in events] == [
        ("1", "start", ""), ("2", "hold", "4.0 s"), ("3", "outage", "10 s"), ("4", "killed", ""), ("5", "resumed", ""),
        ("6", "cap", ""),
    ]  # fmt: skip
    assert "pauses cut out (50 min)" in viewer.text("[data-chart=events] .unit")
    quantiles = [text for text in viewer.texts(".distribution .quantiles dd") if "tokens" in text]
    assert quantiles == [
        f"{facts[name]:,} tokens"
        for facts in document["distributions"]
        if facts["unit"] == "tokens"
        for name in ("p50", "p90", "p99", "max")
    ]
    assert viewer.texts("#cost tbody td:last-child") == [f"${cost['usd'] / 2:.2f}"] * 2
    assert viewer.texts("#cost [data-chart=cost] .legend .figure") == [f"${cost['usd'] / 2:.2f}"] * 2
    assert viewer.texts("[data-failure] .advice dd") == [
        text for each in document["failures"] for text in (each["meaning"], each["advice"])
    ]
    assert viewer.texts("details[data-key^=failure] > summary .figure") == [
        f"{each['rows']:,} rows, {each['rows'] / totals['failed'] * 100:.1f}%" for each in document["failures"]
    ]
    assert viewer.texts("[data-field=label] .values .figure")[:2] == ["4,210 42.5%", "3,002 30.3%"]
    assert viewer.texts("[data-field=confidence] .quantiles dd") == ["0", "0.5", "0.4999", "1"]
    assert viewer.texts("#providers thead th") == ["", "provider-0", "provider-1"]
    providers = {cells[0]: cells[1:] for cells in cells_of(viewer, "#providers")}
    assert providers["Requests"] == ["18,000", "18,001"]
    assert providers["429s"] == ["0", "120"]
    assert providers["Cost"] == ["$6.70", "$6.70"]
    assert [cells[5] for cells in cells_of(viewer, "#sessions")] == ["16,000", "16,000"]
    assert viewer.texts(".configuration dd") == ["model-0", "Subject: {subject} {message}"]
    step = {"rows": 900, "failed": 1, "left_out": 70, "requests": 901, "prompt_tokens": 5000, "completion_tokens": 700}
    viewer.draw(report({"steps": [{"name": "draft", "usd": 0.25, **step}, {"name": "judge", "usd": None, **step}]}))
    assert cells_of(viewer, "#steps") == [
        ["draft", "900", "1", "70", "901", "5,000", "700", "$0.25"],
        ["judge", "900", "1", "70", "901", "5,000", "700", "\N{EN DASH}"],
    ]
    verdicts = {(FIRST, SECOND): 30, (SECOND, FIRST): 10, (FIRST, FIRST): 10, (UNREADABLE, TIE): 1}
    rates = counted(("old", "<b>"), [("judge", False), ("swapped", True)], verdicts.items())
    viewer.draw(report({"win_rates": [msgspec.to_builtins(rates)]}))
    assert cells_of(viewer, "#wins") == [
        ["old", "30", "60.0%", "", "46.2% to 72.4%"],
        ["<b>", "10", "20.0%", "", "11.2% to 33.0%"],
        ["tie", "10", "20.0%", "", "11.2% to 33.0%"],
    ]
    assert viewer.texts("#wins p") == [
        "old is better: it has 75.0% (59.8% to 85.8%) of the 40 rows that are no tie. Judged by judge, swapped.",
        "What stood first won in both orders in 10 rows, what stood second in 0: ties.",
        "Not counted: 1 row with a verdict that is not first, second or tie, 0 without one of the verdicts.",
    ]


def numbers_of(viewer: Viewer, chart: str, *, column: int) -> list[float]:
    """Return a column of the table below a chart, of seconds or of a rate."""
    table = viewer.page.locator(f"[data-chart={chart}] details")
    if table.get_attribute("open") is None:
        table.locator("summary").click()
    table.locator("tbody").wait_for()
    cells = viewer.texts(f"[data-chart={chart}] tbody tr > :nth-child({column + 1})")
    return [float(cell.split()[0].replace(",", "")) for cell in cells]


def cells_of(viewer: Viewer, section: str) -> list[list[str]]:
    """Return the texts of a section's table, line by line."""
    cells: list[list[str]] = viewer.page.locator(f"{section} tbody tr").evaluate_all(
        "(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent.replace(/\\s+/g, ' ').trim()))"
    )
    return cells


@in_chromium
def test_what_there_is_nothing_of_has_no_section(viewer: Viewer) -> None:
    viewer.draw(ODD["nothing done yet"])
    assert viewer.page.locator("main > section").evaluate_all("(all) => all.map((each) => each.id)") == ["summary"]
    assert viewer.text("h1") == "0 of 60,000 rows done"
    assert "Slowed by the disk" in viewer.texts(".next")
    viewer.draw(ODD["only batches"])
    assert viewer.texts("nav a") == ["Batches"]
    assert len(viewer.page.locator("[data-chart=batches] rect").all()) == 18
    assert viewer.text("#batches summary") == "All batches: 18"
    viewer.draw(ODD["no price is known"])
    assert "no price known of model-0" in viewer.text("[data-tile=Cost]")
    assert viewer.page.locator("[data-chart=cost]").count() == 0
    viewer.draw(report())
    assert viewer.texts("nav a") == [
        "Over time", "Distributions", "Cost", "Failures", "What the replies say", "Replies", "Providers", "Sessions",
        "Configuration",
    ]  # fmt: skip


@in_chromium
def test_of_many_the_largest_have_colours_and_the_others_one_together(viewer: Viewer) -> None:
    viewer.draw(ODD["30 classes of faults"])
    totals = sorted(map(sum, ODD["30 classes of faults"]["timeline"]["faults"].values()), reverse=True)
    legend = viewer.texts("[data-chart=faults] .legend li")
    assert len(legend) == 7
    assert legend[-1] == f"24 others {sum(totals[6:]):,}"
    viewer.draw(ODD["12 providers and models"])
    assert viewer.texts("[data-chart=by-provider] .legend li")[-1].startswith("6 others")
    assert len(cells_of(viewer, "#providers")) == 24
    colours = viewer.page.locator("[data-chart=by-provider] .key").evaluate_all(
        "(keys) => keys.map((key) => getComputedStyle(key).backgroundColor)"
    )
    assert len(set(colours)) == 7


@in_chromium
def test_a_pause_of_days_takes_little_room_and_the_rest_is_time_at_work(viewer: Viewer) -> None:
    viewer.draw(ODD["three days with three days between"])
    assert "pauses cut out (3 d 0 h)" in viewer.text("[data-chart=events] .unit")
    ticks = viewer.texts("[data-chart=rows] [aria-label='x-axis tick label'] text")
    assert (ticks[0], ticks[-1]) == ("0", "3 d")
    pause = viewer.page.locator("[data-chart=rows] [aria-label=rect]").first.locator("rect")
    chart = viewer.page.locator("[data-chart=rows] svg").bounding_box()
    cut = pause.bounding_box()
    assert chart
    assert cut
    assert 10 < cut["width"] < chart["width"] / 30


@in_chromium
def test_a_clock_that_is_set_back_hides_no_work(viewer: Viewer) -> None:
    viewer.draw(ODD["a clock that is set back"])
    ticks = viewer.texts("[data-chart=rows] [aria-label='x-axis tick label'] text")
    assert (ticks[0], ticks[-1]) == ("0", "2 min")
    places = viewer.page.locator("[data-chart=rows] [aria-label='x-axis tick'] path").evaluate_all(
        "(all) => all.map((each) => each.getBoundingClientRect().left)"
    )
    steps = [after - before for before, after in pairwise(places)]
    assert max(steps) - min(steps) < 1
    assert sum(numbers_of(viewer, "rows", column=1)) == pytest.approx(120)


@in_chromium
def test_a_part_that_cannot_be_drawn_takes_nothing_else_with_it(viewer: Viewer) -> None:
    viewer.draw(report({"providers": [None], "distributions": [{"name": "latency"}]}))
    assert "`" not in viewer.text("#providers .problem")
    assert "rowmill report --json" in viewer.text("#providers .problem")
    assert viewer.texts("nav a")[-1] == "Configuration"
    assert len(viewer.troubles) >= 2
    viewer.troubles.clear()


@in_chromium
def test_a_text_of_a_row_stays_a_text(viewer: Viewer) -> None:
    for document in (ODD["hostile texts"], report()):
        viewer.draw(document)
        nothing_of_a_row_is_an_element(viewer)
        assert SCRIPT in viewer.page.inner_text("main")
    shown = viewer.page.inner_text("[data-failure=server_error]")
    assert "[U+202E]right to left\u2407" in shown
    assert LONG in shown
    viewer.show(compared())
    nothing_of_a_row_is_an_element(viewer)
    assert SCRIPT in viewer.page.inner_text("#differing")


def nothing_of_a_row_is_an_element(viewer: Viewer) -> None:
    assert viewer.page.locator("main script, main img, main iframe").count() == 0
    assert viewer.page.locator("body > script").count() == viewer.page.evaluate("document.scripts.length")
    assert viewer.page.title() != "taken"


@in_chromium
def test_two_runs_stand_beside_each_other_with_what_differs_marked_by_more_than_a_colour(viewer: Viewer) -> None:
    page = viewer.show(compared())
    assert viewer.text("h1") == "73.6% of the answers are the same"
    sides = {cells[0]: cells[1:] for cells in cells_of(viewer, "#sides")}
    assert sides["Failed"] == ["12", "24", "+12, +100.0%"]
    assert sides["Cost"] == ["$0.50", "$0.60", "+$0.10, +20.0%"]
    assert sides["Latency, p90"] == ["320 ms", "320 ms", "the same"]
    assert cells_of(viewer, "#agreement") == [
        ["confidence", "76.3%", "", "744", "975"],
        ["label", "95.0%", "", "931", "980"],
    ]
    assert viewer.texts("#differing pre")[:2] == ["the parcel is late again", "the parcel is lost"]
    assert (viewer.texts("del")[0], viewer.texts("ins")[0]) == ("late again", "lost")
    marks = page.locator("del, ins").evaluate_all(
        "(all) => all.map((each) => getComputedStyle(each).textDecorationLine)"
    )
    assert set(marks) == {"line-through", "underline"}
    assert viewer.text("#differing > div > p:last-child") == "and 209 more rows that differ"
    page.locator("#only-failed").check()
    assert page.locator("article").count() == 1
    page.locator("#only-failed").uncheck()
    page.locator("#filter").fill("BILLING")
    assert viewer.texts("article strong") == ["Row 9"]


def test_the_page_is_small_and_its_libraries_are_as_published() -> None:
    assert len(shell_with(msgspec.json.encode(report()))) < 800_000
    for path in SHELL.iterdir():
        assert b"</script" not in path.read_bytes() or path.name == "page.html"
    for name, digest in AS_PUBLISHED.items():
        head, _, library = (SHELL / name).read_bytes().partition(b"*/\n")
        assert hashlib.sha256(library).hexdigest() == digest
        assert b"Permission to use, copy, modify" in head
