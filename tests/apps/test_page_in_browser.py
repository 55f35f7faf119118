"""The page as a visitor uses it, in a real headless Chromium; skipped where there is none."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from genre_utils.sources.sample import draw_poster

pytestmark = pytest.mark.slow
pytest.importorskip("gradio", reason="the page needs Gradio: pip install -e '.[app]'")
api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("needs Chromium: apt-get install chromium", allow_module_level=True)

TIMEOUT = 180_000  # milliseconds; a loaded machine is slow
# In a container Chromium has neither its sandbox nor much shared memory.
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage"]


@pytest.fixture(scope="module")
def address():
    from genre_utils.apps import page as page_module
    from genre_utils.predictor import Predictor

    page = page_module.launch(Predictor.load(runtime=False))
    yield page.local_url
    page.close()


@pytest.fixture(scope="module")
def browser():
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Open the page at a width in pixels; fails the test for an error in its console."""
    errors, contexts = [], []

    def visit(width: int = 1280):
        context = browser.new_context(viewport={"width": width, "height": 800})
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.set_default_timeout(TIMEOUT)
        page.goto(address)
        page.get_by_role("heading", level=1).wait_for()
        contexts.append(context)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not errors


@pytest.fixture
def posters(tmp_path):
    """Two drawn posters, one with a name that is markup, and a file that is no picture."""
    names = {"Horror": "night <b>&.jpg", "Western": "=dust.png"}
    for i, (genre, name) in enumerate(names.items()):
        draw_poster([genre], np.random.default_rng(i)).save(tmp_path / name)
    (tmp_path / "bad.jpg").write_text("no picture")
    return sorted(tmp_path.iterdir())


def drop(page, *files):
    page.locator("input[type=file]").first.set_input_files([str(file) for file in files])
    page.locator(".posters article").nth(len(files) - 1).wait_for()


def test_several_posters_and_a_bad_file_are_answered(visit, posters, tmp_path):
    page = visit()
    drop(page, *posters)
    assert "2 predicted, 1 not predicted" in page.get_by_role("status").first.inner_text()
    assert "not a picture in a known format" in page.get_by_role("alert").first.inner_text()
    good = page.locator(".posters article:not([role])")
    for article in good.all():
        assert article.locator("meter").count() == 3
        assert article.locator("img").count() == 4
        assert all(img.get_attribute("alt") for img in article.locator("img").all())
    assert "Words read: " in good.first.inner_text()
    assert page.locator(".posters b").count() == 0, "a file's name is no markup"
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").or_(page.get_by_role("link", name="CSV")).click()
    download.value.save_as(tmp_path / "genres.csv")
    table = pd.read_csv(tmp_path / "genres.csv")
    assert table.columns.tolist() == ["poster", "rank", "genre", "score", "error"]
    assert len(table) == 2 * 3 + 1
    assert not table["poster"].str.startswith("=").any()


def test_the_slider_shows_more_genres_of_the_same_posters(visit, posters):
    page = visit()
    drop(page, posters[0] if posters[0].suffix == ".png" else posters[-1])
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.locator("meter").nth(4).wait_for()
    assert page.locator("meter").count() == 5


def test_an_empty_field_means_three_genres_and_a_poster_can_be_removed(visit, posters):
    page = visit()
    page.locator("input[type=number]").fill("")
    drop(page, *posters)
    assert page.locator("meter").count() == 2 * 3
    for left in (2, 1):  # the second while the first removal is answered
        page.get_by_role("button", name="Remove this file").first.click()
        page.wait_for_function(f"document.querySelectorAll('.file-preview tr').length == {left}")
    page.wait_for_function("document.querySelectorAll('.posters article').length == 1")


def test_a_thin_poster_makes_no_long_page(visit, tmp_path):
    Image.new("RGB", (10, 5000)).save(tmp_path / "thin.png")
    page = visit()
    drop(page, tmp_path / "thin.png")
    page.locator(".posters img").nth(3).wait_for()
    assert page.evaluate("document.documentElement.scrollHeight") < 2000


def test_a_drawn_example_is_one_click_away(visit):
    page = visit()
    page.locator("button:has(img)").first.click()
    page.locator(".posters article").wait_for()
    assert page.locator("meter").count() == 3


def test_a_file_that_is_too_large_gets_a_sentence(visit, tmp_path):
    page = visit()
    with open(tmp_path / "huge.jpg", "wb") as file:
        file.truncate(25 * 1024**2)
    page.locator("input[type=file]").first.set_input_files(str(tmp_path / "huge.jpg"))
    page.get_by_text("Not predicted: the file is larger than 20 MB").wait_for()
    assert page.locator(".posters article:not([role])").count() == 0


def test_nothing_sticks_out_on_a_phone(visit, posters):
    page = visit(width=390)
    drop(page, posters[-1])
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_it_can_be_used_by_keyboard_and_ear(visit):
    page = visit()
    assert (
        page.get_by_role("slider").get_attribute("aria-label")
        or page.get_by_label("How many genres").count()
    )
    page.locator("button[aria-label^='Predict drawn example']").first.wait_for()
    for button in page.get_by_role("button").all():
        assert button.get_attribute("aria-label") or button.inner_text().strip()
