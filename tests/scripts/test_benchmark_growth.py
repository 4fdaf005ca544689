"""The benchmark's curves of growth: each point can be measured, and the exponent is the slope."""

import dataclasses

import pytest
from helpers.scripts import script

growth = script("parts.benchmark.growth")
# These start processes or need a package of a peer; the benchmark itself tries them.
_IN_PROCESS = [name for name in growth.GROWTHS if name not in {"list", "consumers", "threads"}]


@pytest.mark.parametrize(("power", "expected"), [(0, 0.0), (1, 1.0), (2, 2.0)])
def test_the_exponent_is_the_slope_in_logarithms(power, expected):
    sizes = [1, 10, 100, 1_000]
    assert growth.exponent(sizes, [3.0 * size**power for size in sizes]) == pytest.approx(expected)


@pytest.mark.parametrize("name", _IN_PROCESS)
def test_the_smallest_point_of_each_curve_has_positive_figures(name, monkeypatch):
    monkeypatch.setattr(growth, "_POINT_S", 0.01)
    curve = growth.GROWTHS[name]
    figures = curve.measure["mpqueue"](curve.sizes[0])
    assert figures and all(figure >= 0 for figure in figures.values())


def test_the_table_has_a_row_for_each_figure_of_all_who_are_installed(monkeypatch):
    curve = dataclasses.replace(growth.GROWTHS["mix"], sizes=(1, 10, 100))
    monkeypatch.setattr(growth, "GROWTHS", {"mix": curve})
    monkeypatch.setattr(growth, "_installed", lambda _: ["mpqueue"])
    monkeypatch.setattr(growth, "_point", lambda _name, _who, size: {"us": 2.0 * size})
    told = []
    rows = list(growth.measure_all(told.append, quick=True))[2:]
    assert rows == ["| mix | us for an element | mpqueue | 1 / 10 parts | 2 / 20 | 1.00 |"]
    assert len(told) == growth.num_points(quick=True) == 2
