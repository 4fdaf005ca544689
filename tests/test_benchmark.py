"""How scripts/benchmark.py makes figures of what was measured."""

import json

import pytest
from test_demo import script


@pytest.fixture
def results():
    """Two rounds; in the second one the machine was half as fast."""
    report = script("bench.report")
    rates = {("tiny", "imap"): [100.0, 50.0], ("tiny", "mpqueue"): [450.0, 225.0], ("decode", "mpqueue"): [10.0, 12.0]}
    return report.Results(rates, {"cold": [90.0, 100.0, 200.0], "parked": [12.0]})


def test_ratios_are_of_the_same_round(results):
    """A minute in which everything is slow changes no ratio."""
    assert results.ratio("tiny", "imap") == 4.5
    assert results.ratio("tiny", "processes") is None


def test_rates_are_told_in_the_unit_of_the_workload(results):
    """Median and half of the range; 32 images make a batch of the decoding."""
    rows = {(workload, name): (rate, spread) for workload, name, rate, spread in results.rows()}
    assert rows["tiny", "imap"] == (75.0, pytest.approx(1 / 3))
    assert rows["decode", "mpqueue"] == (11.0 * 32, pytest.approx(1 / 11))


@pytest.mark.parametrize("form", ["as_text", "as_markdown"])
def test_a_figure_that_is_not_reached_is_called_missed(results, form):
    """4.5 times imap is less than 5, 12 ms is more than 10; 100 ms is within 150."""
    missed = [line for line in getattr(results, form)().splitlines() if "MISSED" in line]
    assert len(missed) == 2
    assert "tiny: 4.50 of imap" in missed[0]
    assert "parked: 12.0 ms" in missed[1]


def test_what_ran_on_one_core_is_compared_with_mpqueue_on_one_core():
    """And what ran on all with mpqueue on all."""
    report = script("bench.report")
    rates = {
        ("csv", "mpqueue"): [40.0],
        ("csv", "mpqueue on one core"): [20.0],
        ("csv", "TensorFlow queues"): [100.0],
        ("csv", "TensorFlow queues on one core"): [25.0],
    }
    results = report.Results(rates, {})
    assert results.ratio("csv", "TensorFlow queues") == 0.4
    assert results.ratio("csv", "TensorFlow queues on one core") == 0.8
    assert "csv: 0.40 of TensorFlow queues, at least 0.5 wanted: MISSED" in results.as_text()


def test_a_missing_tensorflow_is_named(monkeypatch):
    """Its rows are left out, and a line says why."""
    monkeypatch.setenv("MPQUEUE_PEERS_PYTHON", "")
    report = script("bench.report")
    if report.python_with_tensorflow() is not None:
        pytest.skip("TensorFlow is installed")
    assert "TensorFlow is not installed" in report.Results({("lines", "mpqueue"): [1.0]}, {}).as_text()
    assert script("bench.records").readers() == ["mpqueue", "mpqueue on one core"]


def test_json_holds_every_round(results):
    """What a program needs to make its own figures."""
    document = json.loads(results.as_json())
    assert document["rates"][0]["rates"] == [100.0, 50.0]
    assert document["first_batch_ms"]["cold"] == [90.0, 100.0, 200.0]


def test_a_round_measures_chunks_of_batches_only_where_they_are_small():
    """Sixteen large batches at a time would fill the memory."""
    planned = script("bench.rounds").plan(["tiny", "image"], ["imap by 16"], 2, 0.1)
    assert [one.workload for one in planned if one.name == "imap by 16"] == ["tiny"]
