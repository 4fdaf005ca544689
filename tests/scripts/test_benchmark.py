"""How scripts/benchmark.py makes figures of what was measured, and what it does when something is missing."""

import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys

import pytest
from helpers.scripts import SCRIPTS, script

COSTS = {
    "first_ms": 30.0,
    "trainer_ms": 0.25,
    "workers_ms": 0.75,
    "memory_mb": 40.0,
    "shared_mb": 30.0,
    "waiting": 0.5,
    "stop_ms": 7.0,
    "batch_mb": 0.5,
}


@pytest.fixture
def results():
    """Two rounds; in the second one the machine was half as fast."""
    made = script("parts.benchmark.results")
    rates = {
        ("tiny", "imap"): [100.0, 50.0],
        ("tiny", "mpqueue"): [450.0, 225.0],
        ("decode", "mpqueue"): [10.0, 12.0],
        ("small", "slots"): [100.0, 100.0],
        ("small", "mpqueue"): [61.0, 62.0],
    }
    costs = {("decode", "mpqueue"): {name: [value, 3 * value, 2 * value] for name, value in COSTS.items()}}
    return made.Results(
        rates,
        {"cold": [90.0, 100.0, 200.0], "parked": [12.0]},
        costs=costs,
        wake_ups={"mpqueue": [float(latency) for latency in range(1, 102)]},
        memory={"tiny": [43.0], "image in place": [45.0]},
    )


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
    """4.5 times imap is less than 5, 12 ms is more than 5, and so on."""
    lines = getattr(script("parts.benchmark.report"), form)(results).splitlines()
    missed = [line.removeprefix("- ") for line in lines if line.endswith("MISSED")]
    assert missed == [
        "tiny: 4.50 of imap, at least 5 wanted: MISSED",
        "decode: 0.500 ms of the trainer's CPU per batch, below 0.1 wanted: MISSED",
        "memory beyond the ring, image in place: 45.0 MB, at most 44 wanted: MISSED",
        "first batch, parked: 12.0 ms (12.0 to 12.0), at most 5 wanted: MISSED",
    ]


def test_a_figure_that_is_reached_says_so(results):
    """The small batches by their share, the rate being far off; 43 MB are within 20 and twice 12."""
    reached = [
        line for line in script("parts.benchmark.report").as_text(results).splitlines() if line.endswith("reached")
    ]
    assert reached == [
        "small: 62 batches/s, 0.61 of slots, at least 60,000 or 0.6 wanted: reached",
        "memory beyond the ring, tiny: 43.0 MB, at most 44 wanted: reached",
        "first batch, cold: 100.0 ms (90.0 to 200.0), at most 120 wanted: reached",
    ]


def test_costs_are_medians_of_all_rounds(results):
    """CPU per GB is that of trainer and workers together; memory is told without and in shared memory."""
    costs = script("parts.benchmark.costs")
    ((workload, name, cells),) = costs.rows(results)
    assert (workload, name) == ("decode", "mpqueue")
    assert dict(zip(costs.HEADS, cells, strict=True)) == {
        "first batch": "60",
        "trainer": "0.5",
        "workers": "1.5",
        "CPU": "2",
        "memory": "20",
        "shared": "60",
        "waiting": "100%",
        "stop": "14",
    }


def test_the_latency_is_told_by_its_middle_and_its_end(results):
    """Of 1 to 101 µs."""
    assert script("parts.benchmark.costs").wake_up_quantiles(results.wake_ups["mpqueue"]) == (51.0, 100.0)
    assert "- mpqueue: median 51 µs, 99th percentile 100 µs" in script("parts.benchmark.report").as_markdown(results)


def test_what_ran_on_one_core_is_compared_with_mpqueue_on_one_core():
    """And what ran on all with mpqueue on all."""
    made = script("parts.benchmark.results")
    rates = {
        ("csv", "mpqueue"): [40.0],
        ("csv", "mpqueue on one core"): [20.0],
        ("csv", "TensorFlow queues"): [100.0],
        ("csv", "TensorFlow queues on one core"): [25.0],
    }
    results = made.Results(rates, {})
    assert results.ratio("csv", "TensorFlow queues") == 0.4
    assert results.ratio("csv", "TensorFlow queues on one core") == 0.8
    assert "csv: 0.40 of TensorFlow queues, at least 1 wanted: MISSED" in script("parts.benchmark.report").as_text(
        results
    )


def test_the_json_has_the_median_of_the_ratios_of_the_rounds_and_those_that_were_wanted():
    """Not the ratio of the medians; what is mpqueue's own in another way has none."""
    rates = {
        ("tiny", "mpqueue"): [100.0, 300.0, 200.0],
        ("tiny", "mpqueue threads"): [50.0, 50.0, 50.0],
        ("tiny", "imap"): [50.0, 100.0, 80.4],
        ("csv", "mpqueue on one core"): [3.0] * 3,
        ("csv", "TensorFlow queues on one core"): [2.0] * 3,
    }
    results = script("parts.benchmark.results").Results(rates, {})
    document = json.loads(script("parts.benchmark.report").as_json(results))
    assert [row["ratio"] for row in document["rates"]] == [None, None, pytest.approx(200 / 80.4), None, 1.5]
    wanted = {"workload": "tiny", "against": "imap", "at_least": 5.0, "ours": "mpqueue"}
    assert document["targets"] == [wanted | {"ratio": pytest.approx(200 / 80.4)}]


def test_a_missing_tensorflow_is_named(monkeypatch):
    """Its rows are left out, and a line says why."""
    monkeypatch.setenv("MPQUEUE_PEERS_PYTHON", "")
    report = script("parts.benchmark.report")
    if report.python_with_tensorflow() is not None:
        pytest.skip("TensorFlow is installed")
    results = script("parts.benchmark.results").Results({("lines", "mpqueue"): [1.0]}, {})
    assert "TensorFlow is not installed" in report.as_text(results)
    assert script("parts.benchmark.records").readers() == ["mpqueue", "mpqueue on one core"]


def test_json_holds_every_round(results):
    """What a program needs to make its own figures."""
    document = json.loads(script("parts.benchmark.report").as_json(results))
    assert document["rates"][0]["rates"] == [100.0, 50.0]
    assert document["first_batch_ms"]["cold"] == [90.0, 100.0, 200.0]
    assert document["costs"][0]["stop_ms"] == [7.0, 21.0, 14.0]
    assert document["beyond_ring_mb"] == {"tiny": [43.0], "image in place": [45.0]}
    assert "tiny: 4.50 of imap, at least 5 wanted: MISSED" in document["verdicts"]


def test_a_peer_that_is_not_installed_is_not_planned_and_named(monkeypatch):
    """Its absence is a line of the report, beside the targets that need it."""
    peers = script("parts.benchmark.peers")
    absent = dataclasses.replace(peers.PEERS["faster-fifo"], package="no_such_package_at_all")
    monkeypatch.setitem(peers.PEERS, "faster-fifo", absent)
    assert peers.missing(["imap", "executor", "faster-fifo"]) == ["faster-fifo"]
    planned = script("parts.benchmark.rounds").plan(["tiny"], ["mpqueue", "faster-fifo"], 2, 0.1)
    assert {one.name for one in planned} & {"mpqueue", "faster-fifo"} == {"mpqueue"}
    gathered = script("parts.benchmark.gather").Gathered(["mpqueue", "faster-fifo"], 2)
    gathered.add(planned[0], 10.0)
    gathered.add(
        script("parts.benchmark.measure").Measurement("feed", "mpqueue", "tiny", 2, 0.1), COSTS | {"rate": 5.0}
    )
    lines = script("parts.benchmark.report").as_text(gathered.results()).splitlines()
    assert "tiny: ? of faster-fifo, at least 1.7 wanted: (peer missing)" in lines
    assert "faster-fifo is not installed: not measured (python3 -m pip install --group peers)" in lines
    with pytest.raises(ImportError, match=r"pip install --group peers"):
        absent.load()


def test_a_peer_that_fails_is_named_and_not_measured_again():
    """What it reached before is left out; mpqueue itself may not fail."""
    measurement = script("parts.benchmark.measure").Measurement
    peer, own = measurement("feed", "ray", "tiny", 2, 0.1), measurement("feed", "mpqueue", "tiny", 2, 0.1)
    gathered = script("parts.benchmark.gather").Gathered(["ray", "mpqueue"], 2)
    gathered.add(peer, COSTS | {"rate": 1.0})
    gathered.add(own, COSTS | {"rate": 2.0})
    gathered.add_failure(peer, RuntimeError("it failed:\nTraceback\nOSError: no room\n"))
    slow = measurement("wake-up", "ray", "wake-up", 1, 0.1)
    gathered.add(slow, [1.0, 2.0])
    gathered.add_failure(slow, RuntimeError("too slow"))
    assert gathered.is_hopeless(peer)
    assert not gathered.is_hopeless(own)
    results = gathered.results()
    assert list(results.rates) == [("tiny", "mpqueue")]
    assert results.wake_ups == {}
    assert "tiny: ray failed: OSError: no room" in script("parts.benchmark.report").as_text(results)
    with pytest.raises(RuntimeError, match="broken"):
        gathered.add_failure(own, RuntimeError("broken"))


@pytest.mark.parametrize(("name", "num_tries"), [("ray", 2), ("mpqueue", 1)])
def test_a_peer_may_fail_once(name, num_tries, monkeypatch):
    """A Pool that hangs at its end is no figure of its; mpqueue gets no second try."""
    measuring, tries = script("parts.benchmark.measure"), []

    def fails_once(one):
        tries.append(one)
        if len(tries) == 1:
            raise RuntimeError("it hung")
        return COSTS | {"rate": 1.0}

    monkeypatch.setattr(measuring.Measurement, "in_fresh_process", fails_once)
    planned = [measuring.Measurement("feed", name, "tiny", 2, 0.1)]
    gathered = script("parts.benchmark.gather").Gathered([name], 2)
    if name == "mpqueue":
        with pytest.raises(RuntimeError, match="hung"):
            script("parts.benchmark.rounds").measure(planned, 1, gathered, str)
    else:
        assert script("parts.benchmark.rounds").measure(planned, 1, gathered, str).rates == {("tiny", "ray"): [1.0]}
    assert len(tries) == num_tries


@pytest.mark.parametrize("num_whole", [0, 1])
def test_an_interrupt_after_the_first_round_keeps_the_rounds_that_are_whole(num_whole, monkeypatch):
    measuring, tries = script("parts.benchmark.measure"), []

    def interrupted(one):
        tries.append(one)
        if len(tries) > 2 * num_whole + 1:
            raise KeyboardInterrupt
        return COSTS | {"rate": float(len(tries))}

    monkeypatch.setattr(measuring.Measurement, "in_fresh_process", interrupted)
    planned = [measuring.Measurement("feed", name, "tiny", 2, 0.1) for name in ("mpqueue", "imap")]
    gathered = script("parts.benchmark.gather").Gathered(["mpqueue", "imap"], 2)
    measure = script("parts.benchmark.rounds").measure
    if num_whole:
        assert measure(planned, 3, gathered, str).rates == {("tiny", "mpqueue"): [1.0], ("tiny", "imap"): [2.0]}
    else:
        with pytest.raises(KeyboardInterrupt):
            measure(planned, 3, gathered, str)


def test_a_failure_after_the_first_round_keeps_the_rounds_that_are_whole_and_is_named(monkeypatch):
    measuring, tries = script("parts.benchmark.measure"), []

    def fails_late(one):
        tries.append(one)
        if len(tries) == 4:
            raise RuntimeError("failed with exit status 1:\nTraceback\nOSError: no room\n")
        return COSTS | {"rate": float(len(tries))}

    monkeypatch.setattr(measuring.Measurement, "in_fresh_process", fails_late)
    planned = [measuring.Measurement("feed", name, "tiny", 2, 0.1) for name in ("mpqueue threads", "mpqueue")]
    gathered = script("parts.benchmark.gather").Gathered(["mpqueue threads", "mpqueue"], 2)
    results = script("parts.benchmark.rounds").measure(planned, 3, gathered, str)
    assert results.rates == {("tiny", "mpqueue threads"): [1.0], ("tiny", "mpqueue"): [2.0]}
    told = script("parts.benchmark.report").as_text(results)
    assert "round 2: mpqueue or a floor failed: OSError: no room" in told


def test_a_measurement_that_fails_says_why():
    """The process that measures leaves its traceback."""
    one = script("parts.benchmark.measure").Measurement("feed", "no such feed", "tiny", 2, 0.1)
    with pytest.raises(RuntimeError, match="KeyError: 'no such feed'"):
        one.in_fresh_process()


def test_a_round_measures_chunks_of_batches_only_where_they_are_small():
    """Sixteen large batches at a time would fill the memory."""
    planned = script("parts.benchmark.rounds").plan(["tiny", "image"], ["imap by 16"], 2, 0.1)
    assert [one.workload for one in planned if one.name == "imap by 16"] == ["tiny"]


def test_every_target_is_about_something_that_is_measured():
    """A misspelt name would never be reached, and never missed."""
    report, feeds, floors = (
        script("parts.benchmark.report"),
        script("parts.benchmark.feeds").FEEDS,
        script("parts.benchmark.floors").FLOORS,
    )
    for target in report.TARGETS:
        workload = script("parts.benchmark.results").TOLD[target.workload]
        if target.workload in script("parts.benchmark.records").RECORDS:
            beside = ("TensorFlow queues", "tf.data")
        else:
            beside = getattr(workload, "peers", None) or (*feeds, *workload.floors)
        assert target.against in beside, target
    for workload in script("parts.benchmark.workloads").WORKLOADS.values():
        assert set(workload.floors) <= set(floors)


@pytest.fixture(scope="module")
def fonts(tmp_path_factory):
    """Matplotlib keeps the files of its fonts open: they are no leak of the test."""
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure()
    FigureCanvasAgg(figure)
    figure.add_subplot(title="a")
    figure.savefig(tmp_path_factory.mktemp("plots") / "a.png")


def test_rates_are_plotted(fonts, results, tmp_path):
    script("parts.benchmark.plots").draw_rates(results, tmp_path / "rates.png")
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_without_matplotlib_names_the_extra(monkeypatch):
    """And does so before anything is measured."""
    plots = script("parts.benchmark.plots")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SystemExit, match=r"pip install .\.\[plots\]"):
        plots.require_matplotlib()


def test_help_sets_nothing_up(tmp_path):
    """The usage is printed in a checkout where nothing was installed, NumPy neither, and nothing is after it."""
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-S", "-B", "scripts/benchmark.py", "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, check=True)
    for option in ("--quick", "--only", "--workloads", "--json", "--markdown", "--plot"):
        assert option in done.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == ["scripts"]


def test_an_unknown_name_is_told_with_those_that_are_known():
    """Of a workload or of a feed."""
    command = script("parts.benchmark.command")
    with pytest.raises(SystemExit, match="there is no feed 'imapp'; there are: no workers, imap"):
        command._known(["imapp"], script("parts.benchmark.feeds").FEEDS, "feed")
    assert command._known(["tiny"], ["tiny"], "workload") == ["tiny"]


def test_everything_that_can_be_measured_is_listed(monkeypatch):
    """With what is not installed."""
    peers = script("parts.benchmark.peers")
    monkeypatch.setitem(peers.PEERS, "ray", dataclasses.replace(peers.PEERS["ray"], package="no_such_package_at_all"))
    lines = list(script("parts.benchmark.command")._listed())
    names = [
        *script("parts.benchmark.results").KNOWN,
        *script("parts.benchmark.feeds").FEEDS,
        script("parts.benchmark.growth").GROUP,
    ]
    assert [line for line in lines if not line.startswith("  ")] == ["workloads", "feeds", "by itself"]
    assert [line[2:22].rstrip() for line in lines if line.startswith("  ")] == names
    (ray,) = [line for line in lines if line[2:22].rstrip() == "ray"]
    assert ray.endswith("(not installed)")


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_a_file_that_cannot_be_written_is_named_before_anything_is_measured(option, monkeypatch, capsys, tmp_path):
    for file in (tmp_path / "none" / "run", tmp_path):
        monkeypatch.setattr(sys, "argv", ["benchmark.py", option, str(file)])
        with pytest.raises(SystemExit):
            script("parts.benchmark.options").parse("the benchmark")
        assert f"{option} must be a file in a folder that exists, got {file}" in capsys.readouterr().err
