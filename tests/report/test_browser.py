"""The report as a reader has it: opened from disk in Chromium, in both languages, by mouse, keyboard and on paper."""

import os
import re
import shutil
from pathlib import Path

import pytest

from cotejo.data.splits import Dataset
from cotejo.report.render import save_report
from cotejo.report.search_page import save_search_report
from cotejo.report.wording import LANGUAGES
from debian import install_package
from synthetic_search import declare_search, write_search
from synthetic_study import build_comparison, build_gallery, build_histories, build_inputs

pytestmark = pytest.mark.browser

UNFOLD = "document.querySelectorAll('details').forEach(details => details.open = true)"
#: The order that a heading says, how many headings say one, and what its column is sorted by, from above.
READ_COLUMN = """th => [
    th.getAttribute('aria-sort'), th.closest('tr').querySelectorAll('[aria-sort]').length,
    [...th.closest('table').tBodies[0].rows].map(row => row.cells[th.cellIndex]).map(({dataset: {v}, textContent}) =>
        v === undefined ? textContent.trim() : v === '' ? null : Number(v))]"""
SORT_WORDS = "all => all.sort((a, b) => a.localeCompare(b, document.documentElement.lang, {numeric: true}))"
COUNT_FOLDED = "window.folded = document.querySelectorAll('details:not([open])').length"
#: Contrast (WCAG 2.2, 1.4.3) of each text with the first opaque background below it: [ratio, tag, text] of the lowest.
LOWEST_CONTRAST = """selector => {
    const parse = color => color.match(/[0-9.]+/g).map(Number);
    const luminance = ([r, g, b]) => [r, g, b].map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const findGround = element => {
        for (; element; element = element.parentElement) {
            const color = parse(getComputedStyle(element).backgroundColor);
            if (color.length < 4 || color[3] === 1) return color;
        }
        return [255, 255, 255];
    };
    const rows = [...document.querySelectorAll(selector)]
        .filter(element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
        .map(element => {
            const style = getComputedStyle(element);
            const ink = luminance(parse(element.closest('svg') ? style.fill : style.color));
            const ground = luminance(findGround(element));
            const ratio = (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
            return [ratio, element.tagName, element.textContent.trim().slice(0, 60)];
        });
    return [rows.length, rows.sort((a, b) => a[0] - b[0])[0]];
}"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """The report by language; LeNet's training has no clock on record, so that some cells are missing."""
    folder = tmp_path_factory.mktemp("reports")
    inputs = build_inputs(num_samples=400, num_seeds=3)
    del inputs["timings"]["train-lenet"]
    comparison = build_comparison(**inputs)
    for language in LANGUAGES:
        html, data, markdown = (folder / f"{language}.{suffix}" for suffix in ("html", "json", "md"))
        histories = build_histories(num_seeds=3)
        save_report(comparison, histories, language, html, data, markdown, gallery=build_gallery(comparison))
    return {language: folder / f"{language}.html" for language in LANGUAGES}


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, without any window."""
    from playwright.sync_api import sync_playwright  # `make test` runs without it

    if not shutil.which("chromium"):
        install_package("chromium")
    if not (program := shutil.which("chromium")):
        pytest.fail(
            "expected the program chromium on PATH. Received: none. Install Debian's package chromium, or run this "
            "test as root on Debian: then it installs it."
        )
    with sync_playwright() as playwright:
        # its sandbox refuses to start as root
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        chromium = playwright.chromium.launch(executable_path=program, args=options)
        yield chromium
        chromium.close()


@pytest.fixture(params=LANGUAGES)
def language(request):
    return request.param


@pytest.fixture
def open_page(browser, reports, language):
    """Opens the report with a browser's settings, and at the end asserts that it ran without a fault or a request."""
    faults, contexts = [], []

    def open_page(**settings):
        contexts.append(browser.new_context(**settings))
        page = contexts[-1].new_page()
        page.on("console", lambda message: faults.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("requestfailed", lambda request: faults.append(f"failed: {request.url[:80]}"))
        page.on("request", lambda request: check_request(request.url))
        page.goto(reports[language].as_uri())
        return page

    def check_request(url):
        if not url.startswith("data:") and url != reports[language].as_uri():
            faults.append(f"request: {url[:80]}")

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_from_disk_without_an_error_or_a_request(open_page, language, scheme):
    page = open_page(color_scheme=scheme)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.lang") == language
    assert page.locator("figure svg").count() == 10
    # every picture was really decoded
    assert page.evaluate("[...document.images].length > 20 && [...document.images].every(i => i.naturalWidth > 0)")


def test_numbers_are_written_as_the_language_writes_them(open_page, language):
    text = open_page().locator("table[data-name=models] tbody td").first.inner_text()
    assert re.match({"en": r"\d\d\.\d\d%\s", "es": r"\d\d,\d\d\s%\s"}[language], text)


@pytest.mark.parametrize("press", ["click", "keyboard"])
def test_every_column_sorts_up_and_down_with_missing_values_last(open_page, press):
    page = open_page()
    page.evaluate(UNFOLD)
    missing = 0
    for th in page.locator("thead th").all():
        for order in ("ascending", "descending"):
            if press == "click":
                th.locator("button").click()
            else:
                th.locator("button").press("Enter")
            shown, count, values = th.evaluate(READ_COLUMN)
            assert (shown, count) == (order, 1)
            known = [value for value in values if value is not None]
            missing += len(values) - len(known)
            assert values[len(known) :] == [None] * (len(values) - len(known))
            if all(isinstance(value, (int, float)) for value in known):
                assert known == sorted(known, reverse=order == "descending")
            else:
                words = page.evaluate(SORT_WORDS, [*known])
                assert known == words[:: 1 if order == "ascending" else -1]
    assert missing > 0


def test_sorting_really_moves_the_rows(open_page):
    page = open_page()
    table = page.locator("table[data-name=cost]")
    before = table.locator("tbody th").all_inner_texts()
    table.locator("thead button").nth(5).click()
    by_parameters = table.locator("tbody th").all_inner_texts()
    table.locator("thead button").nth(5).click()
    after = table.locator("tbody th").all_inner_texts()
    assert before == by_parameters  # the study's models come in the order of their parameters
    assert after[-1] == before[0]
    assert set(after) == set(before)


def test_no_cell_is_empty_and_nothing_is_left_over_from_the_program(open_page):
    page = open_page()
    page.evaluate(UNFOLD)
    cells = page.locator("th, td").all_inner_texts()
    assert len(cells) > 300
    assert all(cell.strip() for cell in cells)
    text = page.locator("body").inner_text()
    assert not re.search(r"\b(None|nan|NaN|undefined|null|Infinity|inf)\b|{{|{%", text)


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_never_scrolls_sideways(open_page, width):
    page = open_page(viewport={"width": width, "height": 800})
    page.evaluate(UNFOLD)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width == 390:  # what is too wide scrolls in a box of its own, which the keyboard reaches
        boxes = page.locator(".table, .plot")
        assert all(boxes.evaluate_all("all => all.map(box => box.tabIndex === 0)"))
        assert any(boxes.evaluate_all("all => all.map(box => box.scrollWidth > box.clientWidth)"))


def test_every_picture_has_a_text_alternative(open_page):
    page = open_page()
    page.evaluate(UNFOLD)
    names = page.locator("img").evaluate_all("all => all.map(image => image.alt)")
    figures = page.locator("figure").evaluate_all(
        "all => all.map(figure => figure.querySelector('[role=img]')?.getAttribute('aria-label') ?? '')"
    )
    assert len(figures) == 10
    assert all(len(name.strip()) > 15 for name in names + figures)
    assert page.locator("svg").evaluate_all("all => all.every(svg => svg.closest('[role=img][aria-label]'))")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_against_its_background(open_page, scheme):
    page = open_page(color_scheme=scheme)
    page.evaluate(UNFOLD)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == (scheme == "dark")
    count, lowest = page.evaluate(LOWEST_CONTRAST, "body *:not(script):not(style):not(svg *)")
    assert count > 300
    assert lowest[0] >= 4.5, lowest
    # the numbers in the cells of a confusion matrix have the cell's colour below them
    count, lowest = page.evaluate(LOWEST_CONTRAST, "svg text:not([style*='fffffe'])")
    assert count > 100
    assert lowest[0] >= 4.5, lowest


def test_the_keyboard_gets_past_the_contents_and_into_a_folded_table(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    skip = page.locator("a.skip")
    assert skip.evaluate("link => link === document.activeElement && link.getBoundingClientRect().left >= 0")
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#recommendations"
    summary = page.locator("details summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("details").first.get_attribute("open") is not None
    targets = page.locator("nav a").evaluate_all("all => all.map(link => link.getAttribute('href'))")
    assert all(page.locator(target).count() == 1 for target in targets)


def test_it_prints_on_white_with_everything_unfolded(open_page, tmp_path: Path):
    page = open_page(color_scheme="dark")
    page.evaluate(f"addEventListener('beforeprint', () => {{ {COUNT_FOLDED} }})")
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert page.evaluate("window.folded") == 0
    assert page.locator("details[open]").count() == 0
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    count, lowest = page.evaluate(LOWEST_CONTRAST, "body *:not(script):not(style):not(svg *)")
    assert count > 300
    assert lowest[0] >= 4.5, lowest


@pytest.fixture(scope="module")
def searches(tmp_path_factory):
    """The page of a search with all figures by language."""
    folder, search = tmp_path_factory.mktemp("searches"), declare_search(sampler="nsga2", pruner="none")
    write_search(folder, search=search)
    pages = {language: folder / f"{language}.html" for language in LANGUAGES}
    facts = {"dataset": Dataset("digits", ["0", "1"], (8, 8, 1), "9f3c" * 16), "git_commit": None, "dirty": False}
    save_search_report(search, folder, folder / "times.json", facts, list(pages.values()), folder)
    return pages


#: The texts of figures that lie beyond the edge of theirs.
CUT_TEXTS = """() => [...document.querySelectorAll("svg text")].filter(text => {
    const box = text.getBoundingClientRect(), edge = text.closest("svg").getBoundingClientRect();
    return box.left < edge.left - 1 || box.right > edge.right + 1;
}).map(text => text.textContent)"""


@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_of_a_search_opens_without_a_fault_and_never_scrolls_sideways(browser, searches, language, width):
    faults, context = [], browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(searches[language].as_uri())
    assert page.evaluate("[document.documentElement.lang, document.documentElement.scrollWidth]") == [language, width]
    assert page.locator("figure svg").count() == 7
    assert page.evaluate(CUT_TEXTS) == []
    page.locator("table[data-name=trials] thead button").first.click()
    numbers = page.locator("table[data-name=trials] tbody th").all_inner_texts()
    assert [int(number.split()[0]) for number in numbers] == list(range(40))
    context.close()
    assert not faults
