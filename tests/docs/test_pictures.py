"""The documentation's pictures and tables are up to date with the data in the tree."""

import xml.etree.ElementTree as ET

import pytest
from helpers.doc_pages import PAGES
from helpers.script_modules import script

command = script("parts.pictures.command")
measured = script("parts.pictures.measured")
DRAWN = command.drawn()
PICTURES = {path.name: path.read_text("utf-8") for path in command.FOLDER.glob("*.svg")}
SVG = "{http://www.w3.org/2000/svg}"


def test_pictures_of_data_in_the_tree_are_up_to_date():
    assert [name for name, text in DRAWN.items() if PICTURES[name] != text] == []


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_shown_described_and_within_its_bounds(name):
    """Estimate the width of words from an average letter."""
    assert any(f"pictures/{name})" in page.read_text("utf-8") for page in PAGES)
    root = ET.fromstring(PICTURES[name])
    assert root.findtext(f"{SVG}title")
    assert len(root.findtext(f"{SVG}desc")) > 100
    assert "@media (prefers-color-scheme: dark)" in root.findtext(f"{SVG}style")
    width, height = int(root.get("width")), int(root.get("height"))
    outside = []
    for word in root.iter(f"{SVG}text"):
        long = len(word.text) * (9 if word.get("class") == "name" else 6.6)
        left = float(word.get("x")) - {"start": 0, "middle": long / 2, "end": long}[word.get("text-anchor")]
        if left < 0 or left + long > width or not 0 < float(word.get("y")) < height:
            outside.append(word.text)
    assert outside == []


def test_tables_of_pages_are_up_to_date_with_the_data():
    names = []
    for page in measured.PAGES:
        text = page.read_text("utf-8")
        assert measured.with_current_tables(text, measured.load()) == text
        names += measured.names_of(text)
    assert sorted(names) == sorted(
        [*measured.TABLES, measured.FRONT, measured.COSTS, measured.STARTS, measured.WANTED, measured.MACHINE]
    )


def test_tables_of_ranks_are_up_to_date_with_the_data():
    tables = script("parts.pictures.balance_tables")
    page = tables.PAGE.read_text("utf-8")
    assert tables.with_current_tables(page) == page
    named = [found["name"] for found in tables._DRAWN.finditer(page)]
    assert sorted(named) == sorted([*tables.TABLES, tables.MACHINE, tables.TRAINED])


def test_every_rate_of_the_run_is_in_a_table():
    run = measured.load()
    shown = [
        row for name, table in measured.TABLES.items() if name != "batches" for row in measured.rows_of(table, run)
    ]
    assert sorted(map(str, shown)) == sorted(map(str, run["rows"]))


def test_the_front_page_shows_measured_questions_and_marks_the_best_figure():
    front = script("parts.pictures.front_page")
    rows = [{"workload": "tiny", "name": name, "rate": rate} for name, rate in (("mpqueue", 10), ("spdl", 20.5))]
    costs = [["workload", "loader", "first batch"], ["tiny", "mpqueue", "1,125"], ["tiny", "spdl", "13.5"]]
    header, lines = front.lines({"rows": rows, "costs": costs})
    assert header == ["", "mpqueue", "SPDL"]
    assert lines == [["tiny batches/s", "10", "**20.5**"], [front.FIRST_BATCH, "1,125", "**13.5**"]]


def test_the_table_of_options_is_up_to_date_with_the_code():
    """If this fails, run scripts/pictures and commit the result."""
    table = script("parts.pictures.options_table")
    page = table.PAGE.read_text("utf-8")
    assert page == table.with_current_table(page)
    other = page.replace("| `restarts` | `3` |", "| `restarts` | `4` |")
    assert other != page == table.with_current_table(other)
