"""``scripts/auto``: a row is measured, and the page has the table of all cases."""

import os

from helpers.scripts import script

command = script("parts.auto.command")


def test_a_row_has_the_rates_of_fixed_and_of_automatic_numbers(capsys):
    before = os.sched_getaffinity(0)
    case = command.cases(0.2)[0]
    name, cpus, best, found, ratio = command.row(case, 1, 0.2, 0.1).strip("| ").split(" | ")
    assert (name, cpus) == ("computes", "1")
    assert float(best.split()[0]) > 0 and best.endswith("(1 x 1)") and found.endswith("(1 x 1)")
    assert float(ratio) > 0
    assert os.sched_getaffinity(0) == before and not capsys.readouterr().out


def test_the_page_has_a_row_for_each_case():
    text = command.PAGE.read_text().partition(command.BEGIN)[2].partition(command.END)[0]
    rows = [line.split(" | ")[:2] for line in text.splitlines() if line.startswith("| ")][1:]
    cpus = sorted({int(count) for _, count in rows})  # with one CPU, only the rows of one CPU
    assert cpus in ([1], [1, 2])
    assert rows == [[f"| {case.name}", str(count)] for count in cpus for case in command.cases(30)]
