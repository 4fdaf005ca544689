"""A ratio in a table of any page is the ratio of the figures in the same table."""

import re
import statistics

import pytest
from helpers.doc_pages import PAGES, name_of


def tables(text):
    """Yield the header and the rows of each table, as lists of cells."""
    for found in re.finditer(r"(?:^\|.*\|\n){2,}", text, re.M):
        header, _, *rows = ([cell.strip() for cell in line[1:-1].split("|")] for line in found[0].splitlines())
        yield header, rows


def figure(cell):
    """Return the first number of a cell, the median if it has several after semicolons, or None."""
    found = [re.match(r"(-?\d[\d,]*\.?\d*)", part.strip()) for part in cell.split(";")]
    return statistics.median(float(one[1].replace(",", "")) for one in found) if all(found) else None


def ratio_columns(header):
    """Yield a column of ratios, and the columns of its two figures: "A / B" divides them, "ratio" the last by the one before."""
    for column, name in enumerate(header):
        above, _, below = name.partition(" / ")
        pair = [[at for at in range(column) if header[at].startswith(part)] for part in (above, below)]
        if name == "ratio" and column >= 3:
            yield column, column - 1, column - 2
        elif below and all(pair):
            yield column, pair[0][0], pair[1][0]


def contradictions(text):
    """Yield each stated ratio of a page that its figures do not have."""
    for header, rows in tables(text):
        for at, over, under in ratio_columns(header):
            for row in rows:
                ratio, above, below = figure(row[at]), figure(row[over]), figure(row[under])
                if None not in (ratio, above, below):
                    digits = len(re.match(r"[\d,]+\.?(\d*)", row[at])[1])
                    # The figures of a table may be rounded, so the last digit of their ratio may differ by one.
                    if abs(above / below - ratio) > 1.001 * 10**-digits:
                        yield row, round(above / below, digits)


@pytest.mark.sample(8)
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_stated_ratios_are_those_of_the_figures_in_the_same_row_or_table(page):
    assert list(contradictions(page.read_text("utf-8"))) == []


def test_a_contradiction_is_found():
    table = "| workload | mpqueue | best other | loader | mpqueue / best |\n|---|---:|---:|---|---:|\n"
    table += "| decode | 1,123 ±30% images/s | 1,529 ±19% | spdl | 1.12 |\n"
    assert [right for _, right in contradictions(table)] == [0.73]
    assert list(contradictions(table.replace("1.12", "0.73"))) == []
