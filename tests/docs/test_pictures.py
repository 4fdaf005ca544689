"""The documentation's pictures and tables are up to date with the data in the tree."""

import xml.etree.ElementTree as ET

import pytest
from helpers.doc_pages import PAGES
from helpers.script_modules import script

command = script("parts.pictures.command")
drawn = script("parts.drawn")
measured = script("parts.pictures.measured")
DRAWN = command.pictures()
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
        names += drawn.names_of(text, measured.SOURCE)
    assert sorted(names) == sorted([measured.FRONT, measured.RATES, measured.STARTS, measured.MACHINE])


def test_tables_of_ranks_are_up_to_date_with_the_data():
    tables = script("parts.pictures.balance_tables")
    page = tables.PAGE.read_text("utf-8")
    assert tables.with_current_tables(page) == page
    assert sorted(drawn.names_of(page, tables.SOURCE)) == sorted([*tables.TABLES, tables.MACHINE, tables.TRAINED])


def test_the_table_of_rates_shows_mpqueue_and_the_best_other_loader_of_each_workload():
    rows = [
        {"workload": "tiny", "name": name, "rate": rate, "unit": "batches/s", "spread": spread}
        for name, rate, spread in (("mpqueue", 10, 2), ("spdl", 20.5, None), ("torch", 4, 1))
    ]
    assert measured.rates({"rows": rows})[1] == [["tiny", "10 ±2% batches/s", "20.5", "spdl", "0.49"]]
    run = measured.load()
    assert [line[0] for line in measured.rates(run)[1]] == measured.workloads_of(run)


def test_the_front_page_compares_measured_workloads_with_pytorch_and_the_best_other_loader():
    front = script("parts.pictures.front_page")
    rates = {"mpqueue": 3000, "torch": 1000, "spdl": 2000, "grain": 4000}
    rows = [{"workload": "decode", "name": name, "rate": rate} for name, rate in rates.items()]
    header, lines = front.lines({"rows": [*rows, {"workload": "tokens", "name": "mpqueue", "rate": 1}]})
    assert header == front.HEADER
    assert [line[1:4] for line in lines] == [["3,000", "1,000", "**4,000** (Grain)"]]
    assert "3.0 cores of PyTorch" in lines[0][4]
