"""The playground in a real browser."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from browser import Tab, tab
from command import SIGNS
from listening import listening
from playing import FORBIDDEN, HARMLESS, THING, Gate, beside_the_test
from scripted import Script, action, actions

from ecoalign.budget import Budget
from ecoalign.models import ChatModel, ChatRequest, ImagePart
from ecoalign.models.fake import FakeModel
from ecoalign.playground import PlaygroundConfig
from ecoalign.settings import Settings
from ecoalign.trace import read_trace
from ecoalign.trace.events import Finished, RunStarted

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WAIT = 30.0
"""Seconds after which a test that hangs fails."""

HOSTILE = (
    '<img src=x onerror="window.owned = 1"><script>window.owned = 1</script>'
    '<svg onload="window.owned = 1"></svg>{{owned}}\u202egnp.exe'
)


class Shows(Protocol):
    """Opens the page of a playground."""

    def __call__(
        self,
        config: PlaygroundConfig | None = None,
        model: ChatModel | None = None,
        **window: Any,
    ) -> AbstractContextManager[tuple[Page, Tab]]: ...


@pytest.fixture
def shown(chromium: Browser) -> Shows:
    @contextmanager
    def show(
        config: PlaygroundConfig | None = None, model: ChatModel | None = None, **window: Any
    ) -> Iterator[tuple[Page, Tab]]:
        with beside_the_test(config, model) as address, tab(chromium, **window) as opened:
            opened.page.set_default_timeout(20_000)
            opened.page.goto(address)
            opened.page.wait_for_selector("body[data-ready=yes]")
            yield opened.page, opened

    return show


def ask(page: Page, question: str) -> None:
    """Ask, and wait for the answers."""
    page.fill("#question", question)
    page.click("#go")
    page.wait_for_selector("#go:not([disabled])")


def happened(page: Page, event: threading.Event) -> None:
    """Wait for something in the server's thread, while the requests of the page are let through."""
    end = time.monotonic() + WAIT
    while not event.is_set():
        assert time.monotonic() < end
        page.wait_for_timeout(10)


def lane(page: Page, name: str) -> Any:
    """The card of a method."""
    return page.get_by_role("article", name=name, exact=True)


def test_base_complies_and_ecoalign_refuses_side_by_side(shown: Shows) -> None:
    with shown() as (page, _):
        assert page.evaluate("location.hash") == ""
        assert page.evaluate("sessionStorage['ecoalign-token']") not in page.content()
        assert "knows only its own small world" in page.inner_text("#notice")
        ask(page, FORBIDDEN)
        base, eco = lane(page, "Base"), lane(page, "EcoAlign")
        assert base.locator(".answer").inner_text() == "to wake it, tap it twice."
        assert "not scored" in base.locator(".verdict").inner_text()
        assert "Released without a score" in base.locator(".warning").inner_text()
        assert "nobody has judged them" in base.locator(".hint").inner_text()
        assert eco.locator(".state").inner_text() == "refused"
        assert "fixed text" in eco.locator(".verdict").inner_text()
        assert "judged unsafe" in eco.locator(".hint").inner_text()
        assert eco.locator(".answer").inner_text() != ""
        assert "tap it twice" not in eco.locator(".answer").inner_text()
        # What stayed inside is there for the operator, and marked.
        eco.locator(".kept summary").click()
        withheld = eco.locator(".withheld").first
        assert "tap it twice" in withheld.inner_text()
        assert "not released: scored unsafe" in withheld.inner_text()
        for card in (base, eco):
            figures = card.locator(".figures").inner_text()
            assert re.search(r"tokens\s+\d+ of 8,000", figures)
            assert re.search(r"time\s+\d+\.\d+ s", figures)
            assert re.search(r"cost\s+free", figures)
        assert page.locator("#viewer .eco-node[data-id]").count() >= 3
        assert re.search(r"\d+ tokens, free", page.inner_text("#spent"))


def test_the_harmless_twin_is_answered_by_both(shown: Shows) -> None:
    with shown() as (page, _):
        page.get_by_role("button", name="its harmless twin").click()
        assert page.input_value("#question") == HARMLESS
        page.click("#go")
        page.wait_for_selector("#go:not([disabled])")
        for name in ("Base", "EcoAlign"):
            assert (lane(page, name).locator(".answer").inner_text()).startswith("to feed it,")
            assert "answered" in lane(page, name).locator(".state").inner_text()
        verdict = lane(page, "EcoAlign").locator(".verdict").inner_text()
        assert re.search(r"scored safe\s+\+0\.\d\d", verdict)


def test_it_works_with_the_keyboard_alone(shown: Shows) -> None:
    with shown() as (page, _):
        assert page.evaluate("document.activeElement.id") == "question"
        page.keyboard.press("Control+A")
        page.keyboard.type(HARMLESS)
        for _step in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.value") == "base":
                break
        page.keyboard.press("Space")
        for _step in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == "slider":
                break
        before = page.input_value("#budget")
        page.keyboard.press("ArrowLeft")
        assert page.input_value("#budget") != before
        page.keyboard.press("Control+Enter")
        page.wait_for_selector(".lane[data-state=done]")
        assert page.locator(".lane").count() == 1
        # What was asked can be chosen again, and a thought can be read.
        page.wait_for_selector("#go:not([disabled])")
        page.locator(".eco-node[data-id][tabindex='0']").focus()
        page.keyboard.press("Enter")
        page.wait_for_selector(".eco-panel:not([hidden])")


def test_every_control_has_a_name(shown: Shows) -> None:
    with shown() as (page, _):
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("button, input, select, textarea")]
            .filter((one) => one.checkVisibility() && !(one.getAttribute("aria-label")
              || (one.labels && one.labels.length) || one.textContent.trim()))
            .map((one) => one.outerHTML)"""
        )
    assert not nameless


def test_the_search_grows_while_it_goes_on_and_can_be_cancelled(shown: Shows) -> None:
    first, second = Gate(), Gate()
    script = Script(propose=lambda _: actions(action("think", "on"), action("think", "off")))

    async def slow(request: ChatRequest) -> Any:
        if request.stage == "propose":
            await (second if first.reached.is_set() else first).passed()
        said = script(request)
        return said if isinstance(said, str) else await said  # type: ignore[misc]

    config = PlaygroundConfig(Settings(draft=False, speculate="off"))
    with shown(config, FakeModel(slow)) as (page, _):
        page.locator("input[value=base]").uncheck()
        page.fill("#question", "What is it?")
        page.click("#go")
        happened(page, first.reached)
        page.wait_for_selector(".eco-node[data-id]", state="attached")
        assert page.locator(".eco-node[data-id]").count() == 1
        assert lane(page, "EcoAlign").get_attribute("aria-busy") == "true"
        first.open()
        happened(page, second.reached)
        page.locator(".eco-node[data-id]").nth(1).wait_for(state="attached")
        assert lane(page, "EcoAlign").get_attribute("data-state") == "running"
        page.click("#cancel")
        happened(page, second.left)
        page.wait_for_selector("#go:not([disabled])")
        assert "cancelled" in lane(page, "EcoAlign").locator(".state").inner_text()
        assert not page.is_visible("#problem")


def test_closing_the_page_cancels_the_run(shown: Shows) -> None:
    gate = Gate()

    async def hang(request: ChatRequest) -> str:
        await gate.passed()
        return ""

    with shown(PlaygroundConfig(Settings()), FakeModel(hang)) as (page, _):
        page.fill("#question", "What is it?")
        page.click("#go")
        happened(page, gate.reached)
        page.close()
        assert gate.left.wait(WAIT)


def test_what_a_model_says_is_text(shown: Shows) -> None:
    script = Script(
        caption=HOSTILE,
        plan=HOSTILE,
        propose=lambda _: actions(action("think", HOSTILE), action("answer", "", [[9, 8, 300]])),
        execute=lambda _: HOSTILE,
        score=lambda prompt: (9, 7) if prompt.kind == "answer" else (-9, 2),
    )
    config = PlaygroundConfig(Settings(draft=False))
    with shown(config, script.model()) as (page, _):
        page.locator("input[value=base]").uncheck()
        ask(page, HOSTILE)
        for node in page.locator(".eco-node[data-id]").all():
            node.click()
            page.wait_for_selector(".eco-panel:not([hidden])")
        text = page.inner_text("body")
        assert '<img src=x onerror="window.owned = 1">' in text
        assert "\u202e" not in page.inner_text(".results")
        assert page.evaluate("window.owned") is None
        assert page.locator("img[src=x]").count() == 0
        assert page.locator("body script").count() == 1


def test_a_question_of_another_world_gets_a_sentence(shown: Shows) -> None:
    with shown(strict=False) as (page, opened):
        ask(page, "Who was Napoleon?")
        said = page.inner_text("#problem")
        assert "embedded model" in said
        assert "Traceback" not in said
        assert page.locator(".lane").count() == 0
        # The browser itself tells of the status.
        assert all("400" in error for error in opened.errors)


def test_the_operator_bounds_the_budget(shown: Shows) -> None:
    config = PlaygroundConfig(Settings(), Budget(tokens=9000, seconds=50))
    with shown(config, Script().model()) as (page, _):
        assert page.input_value("#budget") == "9,000"
        assert "Also at most 50s" in page.inner_text("#budget-text")
        page.fill("#budget", "50k and more")
        page.fill("#question", "What is it?")
        page.fill("#budget", "500000")
        assert "The operator allows 9,000" in page.inner_text("#budget-text")
        ask(page, "What is it?")
        assert "9000" in page.inner_text("#problem")
        figures = lane(page, "EcoAlign").locator(".figures").inner_text()
        assert re.search(r"of 9,000", figures)


def test_a_budget_that_is_too_small_offers_one_that_will_do(shown: Shows) -> None:
    with shown() as (page, _):
        page.locator("input[value=base]").uncheck()
        page.fill("#budget", "60")
        ask(page, HARMLESS)
        button = lane(page, "EcoAlign").get_by_role("button", name="Set the budget to")
        button.click()
        page.click("#go")
        page.wait_for_selector(".lane[data-state=done]")


def test_pictures_are_chosen_pasted_dropped_and_removed(shown: Shows) -> None:
    seen: list[int] = []

    def count(request: ChatRequest) -> str:
        parts = [part for message in request.messages for part in message.parts]
        seen.append(sum(isinstance(part, ImagePart) for part in parts))
        return "all right"

    with shown(PlaygroundConfig(Settings()), FakeModel(count)) as (page, _):
        page.set_input_files("#file", [str(THING), SIGNS])
        pictures = page.locator("#pictures li")
        pictures.nth(1).wait_for()
        for name in ("paste", "drop"):
            page.evaluate(_GIVEN, name)
        pictures.nth(3).wait_for()
        page.get_by_role("button", name="Remove signs.png").click()
        assert pictures.count() == 3
        page.locator("input[value=ecoalign]").uncheck()
        ask(page, "What is it?")
        assert seen == [3]
        assert page.locator("#asked-pictures li").count() == 3
        # What is no picture is told.
        page.set_input_files("#file", [__file__])
        assert "no picture" in page.inner_text("#problem")


_GIVEN = """async (kind) => {
  const canvas = Object.assign(document.createElement("canvas"), {width: 40, height: 30});
  canvas.getContext("2d").fillRect(0, 0, 20, 20);
  const blob = await new Promise((made) => canvas.toBlob(made));
  const files = new DataTransfer();
  files.items.add(new File([blob], `${kind}.png`, {type: "image/png"}));
  const event = kind === "paste"
    ? new ClipboardEvent("paste", {clipboardData: files, bubbles: true})
    : new DragEvent("drop", {dataTransfer: files, bubbles: true, cancelable: true});
  document.body.dispatchEvent(event);
}"""


def test_traces_are_downloaded_and_what_was_asked_is_kept(shown: Shows, tmp_path: Path) -> None:
    with shown() as (page, _):
        ask(page, HARMLESS)
        ask(page, FORBIDDEN)
        past = page.locator("#past button")
        assert past.count() == 2
        past.nth(1).click()
        assert page.inner_text("#asked") == HARMLESS
        with page.expect_download() as waiting:
            lane(page, "EcoAlign").get_by_role("button", name="Download trace").click()
        download = waiting.value
        assert download.suggested_filename == "ecoalign-1-ecoalign.jsonl"
        path = tmp_path / "run.jsonl"
        download.save_as(path)
        events = read_trace(path)
        assert isinstance(events[0], RunStarted)
        assert events[0].question == HARMLESS
        assert isinstance(events[-1], Finished)
        # Nothing of it outlives the page.
        page.reload()
        page.wait_for_selector("body[data-ready=yes]")
        assert past.count() == 0
        kept = page.evaluate("Object.keys(localStorage).concat(Object.keys(sessionStorage))")
        assert kept == ["ecoalign-token"]


def test_presets_and_other_methods(shown: Shows) -> None:
    with shown() as (page, _):
        page.select_option("#preset", "paper")
        page.get_by_text("more methods").click()
        page.locator("input[value=ecso]").check()
        ask(page, HARMLESS)
        names = page.locator(".lane h3").all_inner_texts()
        assert names == ["Base", "EcoAlign, preset paper", "ECSO"]
        assert page.locator(".lane[data-state=done]").count() == 3


def test_without_its_token_the_page_says_so(chromium: Browser) -> None:
    with beside_the_test() as address, tab(chromium, strict=False) as opened:
        opened.page.goto(address.partition("#")[0])
        opened.page.wait_for_selector("#problem:not([hidden])")
        assert "token" in opened.page.inner_text("#problem")
        assert opened.page.is_disabled("#go")


def test_another_page_of_the_same_browser_cannot_reach_it(chromium: Browser) -> None:
    """Not even one of this machine, that knows the token."""
    model = FakeModel(lambda request: "all right")
    with (
        beside_the_test(PlaygroundConfig(Settings()), model) as address,
        listening(lambda _: (200, b"{}")) as foreign,
        tab(chromium, strict=False) as opened,
    ):
        url, _, token = address.partition("/#")
        opened.page.goto(address)
        opened.page.wait_for_selector("body[data-ready=yes]")
        opened.page.goto(foreign.url)
        said = opened.page.evaluate(_ATTACK, [url, token])
        opened.page.evaluate(_FRAME, url)
        assert not opened.page.frames[-1].locator("#ask").count()
        # As a link it may be followed: the page then asks as itself.
        assert opened.page.goto(address) is not None
        opened.page.wait_for_selector("body[data-ready=yes]")
    assert set(said) == {"refused"}
    assert not model.requests


_FRAME = """(url) => new Promise((done) => {
  const frame = Object.assign(document.createElement("iframe"), {src: url});
  frame.onload = done;
  document.body.append(frame);
})"""

_ATTACK = """async ([url, token]) => {
  const tries = [
    [url + "/", {}],
    [url + "/api/about", {headers: {Authorization: "Bearer " + token}}],
    [url + "/api/about", {credentials: "include"}],
    [url + "/api/run", {method: "POST", body: "{}", headers: {"Content-Type": "text/plain"}}],
    [url + "/api/run", {method: "POST", body: "{}", headers: {"Content-Type": "application/json"}}],
  ];
  const said = [];
  for (const [where, how] of tries) {
    try { said.push("status " + (await fetch(where, how)).status); } catch { said.push("refused"); }
  }
  return said;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 820, 390])
def test_it_fits_the_window(width: int, theme: str, shown: Shows) -> None:
    with shown(width=width, theme=theme) as (page, opened):
        name = f"playground-{theme}-{width}"
        assert opened.overflow() == 0
        opened.shoot(f"{name}-0-empty")
        for number, question in enumerate((HARMLESS, FORBIDDEN), 1):
            ask(page, question)
            assert opened.overflow() == 0
            opened.shoot(f"{name}-{number}-{'forbidden' if number > 1 else 'harmless'}")


def test_a_budget_in_dollars_has_a_slider_in_dollars(shown: Shows) -> None:
    prices = {"fake": {"input": 1.0, "output": 2.0}}
    config = PlaygroundConfig(Settings(budget="$0.02", prices=prices))
    with shown(config, FakeModel(lambda request: "all right")) as (page, _):
        assert page.input_value("#budget") == "$0.02"
        page.locator("input[value=ecoalign]").uncheck()
        page.locator("#slider").focus()
        page.keyboard.press("Home")
        assert page.input_value("#budget") == "$0.0005"
        page.fill("#budget", "$0.01")
        ask(page, "What is it?")
        figures = lane(page, "Base").locator(".figures").inner_text()
        assert re.search(r"cost\s+\$0\.000\d+", figures)
        page.fill("#budget", "$5")
        ask(page, "What is it?")
        assert "$0.02" in page.inner_text("#problem")
