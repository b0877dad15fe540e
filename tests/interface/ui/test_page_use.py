"""The page of a report in use: by keys, in the dark, on paper, from the disk, and while the run goes on."""

import re
from pathlib import Path

from tests.interface.ui.chromium import Viewer, in_chromium
from tests.interface.ui.page_documents import report

PAPER = 688  # px: A4 without its margins, of 53 each
FOCUSED = """() => {
    const element = document.activeElement;
    if (element === document.body) return null;
    const style = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    return {
        name: element.id || `${element.tagName} ${element.textContent.slice(0, 40)}`,
        ringed: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
        there: box.width > 1 && box.height > 1,
    };
}"""
REACHABLE = """() => [...document.querySelectorAll("a[href], button, input, summary, [tabindex='0'], pre")]
    .filter((element) => element.checkVisibility())
    .filter((element) => element.tagName !== "PRE" || element.scrollHeight > element.clientHeight)
    .map((element) => element.id || `${element.tagName} ${element.textContent.slice(0, 40)}`)"""


@in_chromium
def test_all_is_reached_by_keys_in_the_order_in_which_it_stands(viewer: Viewer) -> None:
    page = viewer.show(report())
    reached: list[str] = []
    while True:
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if focused is None or len(reached) > 200:
            break
        assert focused["ringed"], focused
        assert focused["there"], focused
        reached.append(focused["name"])
    assert reached[0] == "A Skip to the report"
    assert reached == page.evaluate(REACHABLE)


@in_chromium
def test_keys_skip_to_the_report_open_what_is_closed_and_choose_a_reply(viewer: Viewer) -> None:
    page = viewer.show(report())
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    details = page.locator("details[data-key=configuration]")
    details.locator("summary").focus()
    page.keyboard.press("Enter")
    assert details.get_attribute("open") is not None
    choices = page.locator("#choices")
    choices.focus()
    shown = page.locator(".card.chosen")
    assert shown.get_attribute("id") == "reply-0"
    for key, reply in (("ArrowDown", 812), ("j", 1234), ("k", 812), ("End", 13500), ("Home", 0), ("ArrowUp", 0)):
        page.keyboard.press(key)
        assert shown.get_attribute("id") == f"reply-{reply}"
        assert choices.get_attribute("aria-activedescendant") == f"choice-{reply}"
    page.locator("#only-failed").check()
    assert page.locator("[role=option]").count() == 1
    assert shown.get_attribute("id") == "reply-1234"
    page.locator("#only-failed").uncheck()
    page.locator("#filter").fill("OVERLOADED")
    assert viewer.texts("#replies [role=status]") == ["1 of these 20 rows"]
    page.locator("#filter").fill("in no row")
    assert page.locator(".card").count() == 0
    page.locator("#filter").fill("")
    assert page.locator("[role=option]").count() == 20


@in_chromium
def test_the_theme_is_the_systems_until_one_is_chosen_and_the_choice_is_kept(viewer: Viewer) -> None:
    page = viewer.show(report(), dark=True)

    def paper() -> str:
        colour: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return colour

    button = page.locator("#theme")
    dark = paper()
    assert button.inner_text() == "Theme: auto"
    button.click()
    assert button.inner_text() == "Theme: light"
    assert paper() == "rgb(255, 255, 255)" != dark
    page.reload()
    assert button.inner_text() == "Theme: light"
    assert paper() == "rgb(255, 255, 255)"
    button.click()
    assert (button.inner_text(), paper()) == ("Theme: dark", dark)
    button.click()
    assert (button.inner_text(), paper()) == ("Theme: auto", dark)


@in_chromium
def test_on_paper_nothing_is_cut_off_and_all_is_opened(viewer: Viewer) -> None:
    page = viewer.show(report(), width=PAPER, dark=True)
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("details:not([open]):not(.figures)").count() == 0
    assert page.locator("details.figures >> visible=true").count() == 0
    assert page.locator(".card >> visible=true").count() == 20
    wide = page.locator(".plot svg, .plot text, table, pre").evaluate_all(
        """(all, most) => all.filter((each) => each.getBoundingClientRect().right > most + 1)
            .map((each) => each.outerHTML)""",
        PAPER,
    )
    assert wide == []
    hidden = page.locator("pre, .wide").evaluate_all(
        "(all) => all.filter((each) => getComputedStyle(each).overflowX !== 'visible').length"
    )
    assert hidden == 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[data-key=configuration]").get_attribute("open") is None
    printed = page.pdf(format="A4", prefer_css_page_size=True)
    assert 4 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 12
    assert len(page.screenshot()) > 20_000


@in_chromium
def test_without_scripts_it_says_so_and_where_the_figures_are(viewer: Viewer) -> None:
    page = viewer.show(report(), scripts=False)
    assert "report.json" in page.inner_text("noscript")
    assert page.locator("noscript p").is_visible()


@in_chromium
def test_a_page_from_the_disk_is_whole(viewer: Viewer, tmp_path: Path) -> None:
    viewer.show(report(), file=tmp_path / "report of <me> & you.html")
    assert viewer.texts("nav a")[0] == "Over time"
    assert viewer.page.locator(".plot svg").count() > 10


@in_chromium
def test_a_run_that_is_followed_is_drawn_anew_and_what_the_reader_does_stays(viewer: Viewer) -> None:
    page = viewer.show(report({"live": True, "run": {"state": "running"}}, seconds=100))
    assert viewer.text("#live") == "Live"
    page.locator("details[data-key=configuration] summary").click()
    page.locator("details[data-key=failure-server_error] > summary").click()  # closes it
    page.locator("#filter").fill("parcel")
    page.locator("#filter").press("ArrowLeft")
    page.locator("#choices li").nth(2).click()
    page.locator("#filter").focus()
    chosen = page.locator(".card.chosen").get_attribute("id")
    before = page.evaluate("document.getElementById('filter').getBoundingClientRect().top")
    plots = viewer.texts("[data-chart=requests] .legend .figure")

    grown = report({"live": True, "run": {"state": "running"}}, seconds=120)
    grown["problems"] = ["one line more above all that is read"]
    viewer.follow({**grown, "replies": [{**grown["replies"][0], "index": 7}, *grown["replies"]]})

    assert viewer.text("h1").startswith(f"{grown['totals']['done']:,} of 60,000")
    assert viewer.texts("[data-chart=requests] .legend .figure") != plots
    assert page.evaluate("document.activeElement.id") == "filter"
    assert page.evaluate("document.activeElement.selectionStart") == len("parce")
    assert page.locator("#filter").input_value() == "parcel"
    assert page.locator(".card.chosen").get_attribute("id") == chosen
    assert page.locator("details[data-key=configuration]").get_attribute("open") is not None
    assert page.locator("details[data-key=failure-server_error]").get_attribute("open") is None
    now = page.evaluate("document.getElementById('filter').getBoundingClientRect().top")
    assert abs(now - before) < 60

    viewer.follow(None)
    assert "Nobody serves this page" in viewer.text("#live")
    assert [trouble for trouble in viewer.troubles if "502" not in trouble] == []
    viewer.troubles.clear()
    page.locator("[data-chart=faults] svg").hover()
    tip = page.locator("[data-chart=faults] [aria-label=tip] text")
    told = tip.text_content()
    viewer.follow(report({"live": True, "made_at": grown["made_at"] + 1}, seconds=110))
    assert viewer.text("#live") == "Live"
    assert tip.text_content() != told  # where the pointer rests is told of what is drawn now
    killed = report({"run": {"state": "killed"}}, seconds=120)
    viewer.follow({**killed, "made_at": grown["made_at"] + 2})
    assert viewer.text("#live") == "The run has ended: killed"
    viewer.follow({**grown, "made_at": grown["made_at"] + 3}, seconds=5)
    assert viewer.text("#live") == "Live", "it was resumed"
    ended = report({"run": {"state": "finished"}}, seconds=120)
    viewer.follow({**ended, "made_at": grown["made_at"] + 4})
    assert viewer.text("#live") == "The run has ended: finished"
    asked = viewer.asked
    page.clock.run_for(5000)
    assert viewer.asked == asked
