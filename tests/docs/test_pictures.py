"""Pictures and tables of the documents are those that ``scripts/pictures`` draws from the data in the tree."""

import json
import re
import xml.etree.ElementTree as ET

import pytest
from helpers.pages import DOCS, PAGES, README
from helpers.scripts import script

command = script("parts.pictures.command")
measured = script("parts.pictures.measured")
DRAWN = command.drawn()
SVG = "{http://www.w3.org/2000/svg}"


def test_the_pictures_in_the_tree_are_those_that_are_drawn():
    found = {path.name: path.read_text("utf-8") for path in command.FOLDER.glob("*.svg")}
    assert sorted(found) == sorted(DRAWN)
    assert [name for name, text in DRAWN.items() if found[name] != text] == []


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_shown_on_a_page(name):
    assert any(f"pictures/{name})" in page.read_text("utf-8") for page in PAGES)


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_well_formed_says_what_it_shows_and_has_colours_for_the_dark(name):
    root = ET.fromstring(DRAWN[name])
    assert root.findtext(f"{SVG}title")
    assert len(root.findtext(f"{SVG}desc")) > 100
    assert "@media (prefers-color-scheme: dark)" in root.findtext(f"{SVG}style")


@pytest.mark.parametrize("name", DRAWN)
def test_nothing_of_a_picture_lies_outside_of_it(name):
    """Words are measured roughly, by the width of an average letter."""
    root = ET.fromstring(DRAWN[name])
    width, height = int(root.get("width")), int(root.get("height"))
    outside = []
    for word in root.iter(f"{SVG}text"):
        long = len(word.text) * (9 if word.get("class") == "name" else 6.6)
        left = float(word.get("x")) - {"start": 0, "middle": long / 2, "end": long}[word.get("text-anchor")]
        if left < 0 or left + long > width or not 0 < float(word.get("y")) < height:
            outside.append(word.text)
    assert outside == []


def test_the_tables_of_the_page_are_those_of_the_data():
    page = measured.PAGE.read_text("utf-8")
    assert measured.page_drawn_anew(page, measured.load()) == page
    assert measured.sections_of(page) == list(measured.load())


def test_every_figure_that_the_front_page_compares_is_in_the_data():
    rows = measured.load()["batches"]["rows"]
    known = {f"{row['rate']:,}" for row in rows}
    table = README.read_text("utf-8").partition("## Compared")[2].partition("\n## ")[0]
    figures = re.findall(r"\| ([\d,.]+)(?= )", table)
    assert len(figures) == 20
    assert set(figures) <= known


def test_every_section_says_where_it_was_measured():
    assert [name for name, section in measured.load().items() if not section["machine"]] == []


def test_a_run_of_the_benchmark_becomes_a_section(tmp_path):
    run = {
        "machine": "a machine",
        "workers": 2,
        "rates": [
            {"workload": "tiny", "name": "mpqueue", "unit": "batches/s", "rates": [100, 300, 200]}
            | {"median": 200.0, "spread": 0.5},
            {"workload": "tiny", "name": "imap", "unit": "batches/s", "rates": [50, 100, 80]}
            | {"median": 80.4, "spread": 0.31},
        ],
    }
    (tmp_path / "run.json").write_text(json.dumps(run))
    columns = ["workload", "fed by", "rate", "spread", "mpqueue has of it"]
    section = measured.section_of(measured.results_from(tmp_path / "run.json"), columns)
    assert section["machine"] == "a machine, 2 workers"
    assert measured.markdown(section).splitlines() == [
        "| workload | fed by | rate | spread | mpqueue has of it |",
        "|---|---|---:|---:|---:|",
        "| tiny | mpqueue | 200 batches/s | ±50% |  |",
        "| tiny | imap | 80.4 batches/s | ±31% | 2.50 |",
    ]


def test_the_data_lie_beside_the_page_and_are_written_a_line_for_each_row(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "DATA", tmp_path / "data.json")
    text = (DOCS / "benchmarks.json").read_text("utf-8")
    measured.save(json.loads(text))
    assert (tmp_path / "data.json").read_text("utf-8") == text
