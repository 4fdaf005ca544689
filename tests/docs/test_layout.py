"""Each page of the site fits a phone and a desktop, and its text has enough contrast in both themes.

The pages are rendered by the Chromium of the system, through Playwright. No package index has a browser: install it
with ``apt-get install chromium``, for example.
"""

import re

import pytest

pytest.importorskip("sphinx", reason="the dependency group docs is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

_WIDTHS = (390, 1280)  # CSS pixels: of a phone, and of a small desktop window
_LEAST_CONTRAST = 4.5  # of normal text, by WCAG 2 (AA)

# The functions return one line for each defect of the page in its present window.
_NAME = """
    const found = [];
    const content = document.querySelector("article");
    const name = (e) => `<${e.tagName.toLowerCase()} class="${e.className}"> ${e.textContent.trim().slice(0, 60)}`;
"""
_MISPLACED = (
    f"""() => {{ {_NAME}"""
    """
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth > width)
        found.push(`the page scrolls to ${document.documentElement.scrollWidth} of ${width} pixels`);
    // An element that is wider than the window must be in a box that scrolls.
    const scrolls = (e) => {
        for (let box = e.parentElement; box && box !== document.body; box = box.parentElement)
            if (["auto", "scroll"].includes(getComputedStyle(box).overflowX)) return true;
        return false;
    };
    for (const e of content.querySelectorAll("*")) {
        const box = e.getBoundingClientRect();
        if (box.width && box.height && box.right > width + 1 && !scrolls(e)) found.push(`cut at the right: ${name(e)}`);
    }
    // The blocks of the text follow each other.
    for (const parent of [content, ...content.querySelectorAll("section")]) {
        const blocks = [...parent.children].filter((e) => {
            const style = getComputedStyle(e);
            return e.getClientRects().length && style.position === "static" && style.float === "none";
        });
        blocks.slice(1).forEach((e, index) => {
            const overlap = blocks[index].getBoundingClientRect().bottom - e.getBoundingClientRect().top;
            if (overlap > 1) found.push(`${Math.round(overlap)} pixels above its predecessor's end: ${name(e)}`);
        });
    }
    return found;
}"""
)
_PALE = (
    f"""(leastContrast) => {{ {_NAME}"""
    """
    // Compare each text with its first background that is not transparent.
    const numbers = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
    const light = ([r, g, b]) => [r, g, b]
        .map((x) => (x / 255 <= 0.04045 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4))
        .reduce((sum, x, index) => sum + x * [0.2126, 0.7152, 0.0722][index], 0);
    const background = (e) => {
        for (let box = e; box; box = box.parentElement) {
            const colour = numbers(getComputedStyle(box).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    const seen = new Set();
    for (const walker = document.createTreeWalker(content, NodeFilter.SHOW_TEXT); walker.nextNode(); ) {
        const e = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || seen.has(e) || e.closest("svg") || !e.getClientRects().length) continue;
        seen.add(e);
        const style = getComputedStyle(e);
        if (style.visibility === "hidden" || Number(style.opacity) < 1) continue;
        const [a, b] = [light(numbers(style.color)), light(background(e))].sort((x, y) => y - x);
        const contrast = (a + 0.05) / (b + 0.05);
        if (contrast < leastContrast) found.push(`contrast ${contrast.toFixed(1)}: ${name(e)}`);
    }
    return found;
}"""
)


@pytest.fixture
def window(browser):
    """A window of Chromium without a network."""
    if browser is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        process = driver.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        with process, process.new_context(offline=True) as context:
            yield context.new_page()


@pytest.mark.timeout(900)
def test_each_page_fits_a_phone_and_a_desktop_and_is_readable_in_both_themes(window, built_site):
    site = built_site[2]
    pages = sorted(page for page in site.rglob("*.html") if page.stem not in {"genindex", "py-modindex", "search"})
    assert len(pages) > 40
    found = []
    for page in pages:
        window.goto(page.as_uri())
        for width in _WIDTHS:
            window.set_viewport_size({"width": width, "height": 800})
            found += [f"{page.name} at {width} pixels: {defect}" for defect in window.evaluate(_MISPLACED)]
        for theme in ("light", "dark"):
            window.evaluate("theme => { document.body.dataset.theme = theme }", theme)
            found += [f"{page.name}, {theme}: {defect}" for defect in window.evaluate(_PALE, _LEAST_CONTRAST)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("bus error docker shm", "operations/memory.html"),
        ("ModuleNotFoundError notebook", "frameworks/interactive.html"),
        ("evaluation loader", "guides/loader.html"),
        ("ranks hang", "operations/ranks-hang.html"),
        ("when is a cached result computed again", "operations/one-cache.html"),
        ("training is slow", "operations/tuning.html"),
        ("resume training after crash", "start/loader.html"),
        ("shuffle large parquet file", "guides/shuffling.html"),
        ("load images from folder", "start/dataset.html"),
        ("read from s3", "start/dataset.html"),
        ("several gpus ranks", "start/loader.html"),
        ("keras fit workers", "start/keras.html"),
        ("random numbers augmentation seed", "guides/exact-resume.html"),
        ("which sample caused nan", "guides/rewind.html"),
    ],
)
def test_search_finds_the_page_among_the_first_two(window, built_site, words, page):
    window.goto(f"{(built_site[2] / 'search.html').as_uri()}?q={words.replace(' ', '+')}")
    window.wait_for_function("() => Search.status.textContent.includes('found')")
    links = [link.get_attribute("href") for link in window.query_selector_all("#search-results li a")]
    assert page in [re.split("[?#]", link)[0] for link in links][:2]
