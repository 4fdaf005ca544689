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


def test_the_tables_of_the_pages_are_those_of_the_data():
    names = []
    for page in measured.PAGES:
        text = page.read_text("utf-8")
        assert measured.page_drawn_anew(text, measured.load()) == text
        names += measured.names_of(text)
    assert sorted(names) == sorted([*measured.TABLES, measured.COSTS, measured.WANTED, measured.MACHINE])


def test_every_table_has_all_workloads_that_it_names():
    run = measured.load()
    for table in measured.TABLES.values():
        assert {row["workload"] for row in measured.rows_of(table, run)} == set(table.workloads)


def test_every_rate_of_the_run_is_in_a_table():
    run = measured.load()
    shown = [
        row for name, table in measured.TABLES.items() if name != "batches" for row in measured.rows_of(table, run)
    ]
    assert sorted(map(str, shown)) == sorted(map(str, run["rows"]))


def test_every_figure_that_the_front_page_compares_is_in_the_data():
    rows = measured.load()["rows"]
    known = {f"{row['rate']:,}" for row in rows}
    table = README.read_text("utf-8").partition("## Compared")[2].partition("\n## ")[0]
    figures = re.findall(r"\| ([\d,.]+)(?= )", table)
    assert len(figures) == 24
    assert set(figures) <= known


def test_a_run_of_the_benchmark_becomes_the_data(tmp_path, monkeypatch):
    def row(workload, name, *rates, ratio=None):
        middle = sorted(rates)[1]
        told = {"workload": workload, "name": name, "unit": "batches/s", "rates": rates, "ratio": ratio}
        return told | {"median": middle, "spread": (max(rates) - min(rates)) / 2 / middle}

    rows = [row("tiny", "mpqueue", 100, 300, 200), row("tiny", "mpqueue threads", 99, 101, 98)]
    rows += [row("tiny", "imap", 50, 100, 80.4, ratio=2.4876), row("csv", "mpqueue on one core", 3, 3, 3)]
    rows += [row("csv", "TensorFlow queues on one core", 2, 2, 2, ratio=1.5), row("csv", "processes", 1, 1, 1)]
    target = {"workload": "tiny", "against": "imap"}
    targets = [target | {"ours": "mpqueue", "at_least": 2.5, "ratio": 2.5}]
    targets += [target | {"ours": "mpqueue threads", "at_least": 5.0, "ratio": 1.234}]
    run = {"machine": "a machine", "workers": 2, "rates": rows, "targets": targets, "verdicts": ["tiny: reached"]}
    run |= {"cost_heads": ["CPU", "memory"], "cost_rows": [["tiny", "imap", ["1.5", "20"]]]}
    (tmp_path / "run.json").write_text(json.dumps(run))
    data = measured.run_of(measured.results_from(tmp_path / "run.json"))
    assert (data["machine"], data["workers"], data["rounds"]) == ("a machine", 2, 3)
    monkeypatch.setitem(measured.TABLES, "batches", measured.Table(("csv", "tiny")))
    page = "# A page\n\n<!-- drawn from benchmarks.json: batches -->\n| old |\n\nText.\n"
    page += "<!-- drawn from benchmarks.json: what was wanted -->\n- old\n"
    page += "<!-- drawn from benchmarks.json: what each costs -->\n"
    page += "<!-- drawn from benchmarks.json: the machine -->\n"
    assert measured.page_drawn_anew(page, data).splitlines() == [
        "# A page",
        "",
        "<!-- drawn from benchmarks.json: batches -->",
        "| workload | fed by | rate | spread | mpqueue has of it | wanted |",
        "|---|---|---:|---:|---:|---|",
        "| csv | mpqueue on one core | 3 batches/s | ±0% |  |  |",
        "| csv | TensorFlow queues on one core | 2 batches/s | ±0% | 1.50 |  |",
        "| csv | processes | 1 batches/s | ±0% |  |  |",
        "| tiny | mpqueue | 200 batches/s | ±50% |  |  |",
        "| tiny | mpqueue threads | 99 batches/s | ±2% |  |  |",
        "| tiny | imap | 80.4 batches/s | ±31% | 2.49 | 2.5: reached; 5 (mpqueue threads: 1.23): missed |",
        "",
        "Text.",
        "<!-- drawn from benchmarks.json: what was wanted -->",
        "- tiny: reached",
        "<!-- drawn from benchmarks.json: what each costs -->",
        "| workload | fed by | CPU | memory |",
        "|---|---|---:|---:|",
        "| tiny | imap | 1.5 | 20 |",
        "<!-- drawn from benchmarks.json: the machine -->",
        "- a machine",
        "- 2 workers, 3 rounds",
    ]
    monkeypatch.setitem(measured.TABLES, "batches", measured.Table(("tiny",), ("mpqueue",)))
    assert [row["name"] for row in measured.rows_of(measured.TABLES["batches"], data)] == ["mpqueue"]


def test_the_data_lie_beside_the_page_and_are_written_a_line_for_each_row(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "DATA", tmp_path / "data.json")
    text = (DOCS / "benchmarks.json").read_text("utf-8")
    measured.save(json.loads(text))
    assert (tmp_path / "data.json").read_text("utf-8") == text


def test_the_table_of_options_is_that_of_the_code():
    """Otherwise run scripts/pictures, and commit what it writes."""
    table = script("parts.pictures.options_table")
    page = table.PAGE.read_text("utf-8")
    assert page == table.page_written_anew(page)
    other = page.replace("| `restarts` | `3` |", "| `restarts` | `4` |")
    assert other != page == table.page_written_anew(other)
