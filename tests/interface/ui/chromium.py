"""A page in a real Chromium, for tests to look at and to use as a person does.

Playwright drives a Chromium that is installed; it downloads none. It runs in a thread of its own: its synchronous calls
keep an event loop running in their thread, and other tests of the process want to run theirs.
"""

import functools
import inspect
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Concatenate, ParamSpec, Self

from playwright.sync_api import Browser, BrowserContext, Dialog, Page, Playwright, Route, ViewportSize, sync_playwright

from rowmill.interface.ui.report_page import page as shell_with
from tests.interface.ui.page_documents import Document

ADDRESS = "http://rowmill.test/report.html"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MADE = 1_796_000_000  # seconds since 1970
P = ParamSpec("P")


def executable() -> str | None:
    """Return the Chromium of this machine; None where there is none."""
    return os.environ.get("ROWMILL_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Viewer:
    """Who looks at one page: `page` once it is shown. Whatever goes wrong in it is one of `troubles`.

    The page in which documents are drawn is the same one for all tests that draw: a new one costs five times what is
    drawn in it.

    facts: what is served as facts.json from now on; None: nobody serves anything.
    """

    page: Page

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []  # of this test alone
        self._document = b""
        self._board: Page | None = None  # to draw in
        self._drawn = 0
        self.facts: Document | None = None
        self.asked = 0  # times that facts.json was
        self.troubles: list[str] = []

    def show(
        self,
        document: Document,
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        scripts: bool = True,
        file: Path | None = None,
    ) -> Page:
        """Open the page that draws a document in a window of its own. file: where it is written and opened from."""
        self._document = shell_with(json.dumps(document).encode())
        context = self._browser.new_context(
            viewport=ViewportSize(width=width, height=height),
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
            timezone_id="Europe/Berlin",
            reduced_motion="reduce",
        )
        self._contexts.append(context)
        context.route("**/*", self._answer)
        self.page = context.new_page()
        self.page.on("console", lambda message: self.troubles.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        self.page.on("dialog", self._dismiss)
        self.page.clock.install(time=MADE)
        self.page.clock.pause_at(MADE + 1)  # the page's seconds pass where a test lets them
        if file:
            file.write_bytes(self._document)
        self.page.goto(file.as_uri() if file else ADDRESS)
        return self.page

    def draw(self, document: Document) -> None:
        """Show a document, in the page that is there as that of a run which is followed: that is quicker."""
        self._drawn += 1
        document = {**document, "live": True, "made_at": MADE + self._drawn}
        if self._board is None:
            self._board = self.show(document)
            self._contexts.remove(self._board.context)
        else:
            self.page = self._board
            self.follow(document)

    def follow(self, facts: Document | None, seconds: int = 1) -> None:
        """Let a second pass on the page's clock, in which this is served; wait until it is drawn, or is missed.

        seconds: after which the page asks; of a run that has stopped it does so less often.
        """
        self.facts = facts
        self.page.clock.run_for(1000 * seconds)
        if facts is None:
            self.page.locator("#live.gone").wait_for()
        else:
            made = (
                datetime.fromtimestamp(facts["made_at"], UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            )
            self.page.locator(f"#foot time[datetime='{made}']").wait_for()

    def resize(self, width: int, height: int = 900) -> None:
        """Make the window as wide as that, and let the page follow."""
        self.page.set_viewport_size(ViewportSize(width=width, height=height))
        self.page.clock.run_for(100)

    def _dismiss(self, dialog: Dialog) -> None:
        self.troubles.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _answer(self, route: Route) -> None:
        """Answer a request of the page: nothing but itself and facts.json is ever asked for."""
        if route.request.url.startswith("file:"):
            route.continue_()
        elif route.request.url == ADDRESS:
            route.fulfill(body=self._document, content_type="text/html; charset=utf-8")
        elif route.request.url == ADDRESS.replace("report.html", "facts.json"):
            self.asked += 1
            if self.facts is None:
                route.fulfill(status=502)
            else:
                route.fulfill(body=json.dumps(self.facts), content_type="application/json")
        else:
            self.troubles.append(f"request: {route.request.url}")
            route.abort()

    def texts(self, selector: str) -> list[str]:
        """Return the texts of what is there, with single spaces."""
        found: list[str] = self.page.locator(selector).all_text_contents()
        return [" ".join(text.split()) for text in found]

    def text(self, selector: str) -> str:
        """Return the text of the one that is there."""
        (text,) = self.texts(selector)
        return text

    def leave(self) -> None:
        """Close what a test has opened; the page to draw in is left as the first test found it."""
        for context in self._contexts:
            context.close()
        self._contexts.clear()
        if self._board is not None:
            self.page = self._board
            self.page.evaluate("delete document.documentElement.dataset.theme")
            self.resize(1280)


class Chromium:
    """A browser, in a thread of its own."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="chromium")
        self._driver: Playwright | None = None
        self._browser: Browser | None = None
        self._viewer: Viewer | None = None

    def __enter__(self) -> Self:
        self._thread.submit(self._start).result()
        return self

    def _start(self) -> None:
        self._driver = sync_playwright().start()
        # Its socket has 107 bytes for a path, of which a long TMPDIR leaves too few.
        own: dict[str, str | float | bool] = {**os.environ, "TMPDIR": "/tmp"}
        self._browser = self._driver.chromium.launch(executable_path=self._program, args=["--no-sandbox"], env=own)

    def __exit__(self, *_: object) -> None:
        self._thread.submit(self._stop).result()
        self._thread.shutdown()

    def _stop(self) -> None:
        if self._browser:
            self._browser.close()
        if self._driver:
            self._driver.stop()

    def use(self, test: Callable[[Viewer], None]) -> None:
        """Run a test that looks at pages; it fails where anything went wrong in one."""
        self._thread.submit(self._use, test).result()

    def _use(self, test: Callable[[Viewer], None]) -> None:
        assert self._browser
        viewer = self._viewer or Viewer(self._browser)
        self._viewer = None  # what a test that has failed leaves behind is no page for another one
        test(viewer)
        assert not viewer.troubles, viewer.troubles
        viewer.leave()
        self._viewer = viewer


def in_chromium(test: Callable[Concatenate[Viewer, P], None]) -> Callable[..., None]:
    """Make a test of a function that is given a viewer; pytest gives it what else it asks for."""

    def run(chromium: Chromium, *args: P.args, **kwargs: P.kwargs) -> None:
        chromium.use(lambda viewer: test(viewer, *args, **kwargs))

    functools.update_wrapper(run, test)
    asked = [*inspect.signature(test).parameters.values()][1:]
    first = inspect.Parameter("chromium", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = inspect.Signature([first, *asked])  # type: ignore[attr-defined]
    return run
