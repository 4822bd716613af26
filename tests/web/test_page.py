"""The page in a browser: what somebody sees who asks, is cut off, stops, comes back, looks for it and removes it."""

import asyncio
import shutil
from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, async_playwright, expect

from tests.web.conftest import Place
from tests.web.test_stream import wait_for_words

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
expect.set_options(timeout=30_000)  # milliseconds

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser, place: Place) -> AsyncIterator[Page]:
    """Somebody new, signed in. What goes wrong in a script fails the test."""
    wrong: list[str] = []
    context = await browser.new_context(base_url=place.url)
    page = await context.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    await sign_in(page, place.key)
    await expect(question_of(page)).to_be_visible()
    yield page
    await context.close()
    assert wrong == []


async def sign_in(page: Page, key: str) -> None:
    await page.goto("/")
    await page.get_by_label("Your key").fill(key)
    await page.get_by_role("button", name="Sign in").click()


def question_of(page: Page) -> Locator:
    return page.get_by_label("Your question")


async def ask(page: Page, words: str) -> None:
    await question_of(page).fill(words)
    await page.get_by_role("button", name="Send").click()


async def ended(page: Page) -> None:
    """Wait until the answer is over."""
    await expect(page.get_by_role("button", name="Another answer")).to_be_visible()


async def test_a_wrong_key_is_told_and_keeps_nothing(browser: Browser, place: Place) -> None:
    page = await browser.new_page(base_url=place.url)
    await sign_in(page, "evt_1_not-the-key")
    await expect(page.locator("#sign-in").get_by_role("alert")).not_to_be_empty()
    await page.reload()
    await expect(page.get_by_label("Your key")).to_be_visible()
    await page.close()


async def test_an_answer_that_is_cut_off_comes_whole(page: Page, place: Place) -> None:
    words = "Where is the sea? say:60 every:20"
    await ask(page, words)
    await asyncio.to_thread(wait_for_words, place, words, 10)
    place.relay.cut()
    await ended(page)
    [call] = place.provider.calls_of(words)
    await expect(page.locator("article").last.locator("p")).to_have_text("".join(call.said).strip())
    await expect(page.locator("article")).to_have_count(2)
    await expect(page.get_by_role("log")).to_contain_text("tokens in")
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Where is the sea?")
    await expect(page.get_by_label("Conversations").get_by_role("link", name="Where is the sea?")).to_be_visible()


async def test_a_page_that_is_opened_again_follows_the_answer(page: Page, place: Place) -> None:
    words = "Go on, say:90 every:20"
    await ask(page, words)
    await asyncio.to_thread(wait_for_words, place, words, 10)
    await page.reload()
    await expect(page.get_by_role("button", name="Stop")).to_be_visible()
    await ended(page)
    [call] = place.provider.calls_of(words)
    await expect(page.locator("article").last.locator("p")).to_have_text("".join(call.said).strip())


async def test_a_stopped_answer_keeps_what_came(page: Page, place: Place) -> None:
    words = "Stop, say:400 every:20"
    await ask(page, words)
    await asyncio.to_thread(wait_for_words, place, words, 10)
    await page.get_by_role("button", name="Stop").click()
    await ended(page)
    await expect(page.get_by_role("log")).to_contain_text("cancelled")
    await expect(page.locator("article").last.locator("p")).not_to_be_empty()


async def test_another_answer_stands_beside_the_first(page: Page) -> None:
    await ask(page, "Twice, please")
    await ended(page)
    first = await page.locator("article").last.locator("p").inner_text()
    await page.get_by_role("button", name="Another answer").click()
    await expect(page.get_by_text("2/2")).to_be_visible()
    await expect(page.locator("article").last.locator("p")).not_to_have_text(first)
    await page.get_by_role("button", name="The branch before").click()
    await expect(page.get_by_text("1/2")).to_be_visible()
    await expect(page.locator("article").last.locator("p")).to_have_text(first)


async def test_what_was_written_is_shown_as_text(page: Page) -> None:
    evil = "<img src=x onerror=\"document.title='evil'\">"
    await ask(page, f"Look: {evil}\n```js\nlet a = '<b>';\n```\nBye")
    await ended(page)
    mine = page.locator("article").first
    await expect(mine.locator("p").first).to_have_text(f"Look: {evil}")
    await expect(mine.locator("pre code")).to_have_text("let a = '<b>';")
    await expect(mine.locator("img, b")).to_have_count(0)
    await page.get_by_label("Search messages").fill("look")
    hit = page.get_by_label("Conversations").locator("li a")
    await expect(hit.locator("mark")).to_have_text("Look")
    await expect(hit).to_contain_text(evil)
    assert await page.title() != "evil"


async def test_what_is_not_accepted_can_be_sent_again(page: Page, place: Place) -> None:
    await ask(page, "First")
    await ended(page)
    number = page.url.rpartition("#")[2]
    headers = {"Authorization": f"Bearer {place.key}"}
    async with httpx2.AsyncClient(base_url=place.service.url, headers=headers, verify=False) as client:
        await client.delete(f"/conversations/{number}")
    await ask(page, "Second")
    await expect(page.locator("#problem")).not_to_be_empty()
    await expect(question_of(page)).to_have_value("Second")
    await page.get_by_role("button", name="New conversation").click()
    await page.get_by_role("button", name="Send").click()
    await ended(page)
    await expect(page.locator("article").first).to_contain_text("Second")


async def test_a_conversation_is_renamed_and_deleted(page: Page) -> None:
    await ask(page, "Name me")
    await ended(page)
    page.once("dialog", lambda dialog: dialog.accept("By the sea"))
    await page.get_by_role("button", name="Rename").click()
    link = page.get_by_label("Conversations").get_by_role("link", name="By the sea")
    await expect(link).to_be_visible()
    page.once("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Delete").click()
    await expect(link).to_have_count(0)
    await expect(page.locator("article")).to_have_count(0)


async def test_usage_is_told_by_model(page: Page) -> None:
    await ask(page, "What does it cost?")
    await ended(page)
    await page.get_by_role("button", name="Usage").click()
    await expect(page.get_by_role("row", name="told 1")).to_be_visible()
    await page.get_by_role("button", name="Close").click()
    await expect(page.get_by_role("dialog")).to_be_hidden()


async def test_a_phone_shows_one_thing_at_a_time(page: Page) -> None:
    await page.set_viewport_size({"width": 390, "height": 760})
    await ask(page, "A long question, and then a very long word: " + "x" * 200)
    await ended(page)
    await expect(page.get_by_label("Conversations", exact=True)).to_be_hidden()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390
    await page.get_by_label("Show conversations").click()
    await expect(question_of(page)).to_be_hidden()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390
    await page.get_by_label("Conversations", exact=True).get_by_role("link", name="A long question").click()
    await expect(question_of(page)).to_be_visible()


async def test_who_signs_out_is_forgotten(page: Page) -> None:
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("Your key")).to_be_visible()
    await page.reload()
    await expect(page.get_by_label("Your key")).to_be_visible()
