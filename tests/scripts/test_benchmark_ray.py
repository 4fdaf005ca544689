"""The benchmark's workloads of Ray: which are planned, what is said where Ray is missing, and their goals."""

import pytest
from helpers.scripts import script

WORKLOADS = ["ray image", "ray first batch"]


@pytest.fixture
def without_ray(monkeypatch):
    monkeypatch.setattr(script("parts.benchmark.ray_workloads"), "is_installed", lambda: False)


@pytest.fixture
def with_ray(monkeypatch):
    monkeypatch.setattr(script("parts.benchmark.ray_workloads"), "is_installed", lambda: True)


def test_every_way_is_planned_where_there_is_ray(with_ray):
    planned = script("parts.benchmark.rounds").plan(WORKLOADS, [], 2, 0.1)
    assert [(one.what, one.workload, one.name) for one in planned] == [
        ("ray", "ray image", "mpqueue"),
        ("ray", "ray image", "plain actors"),
        ("ray", "ray image", "streaming_split"),
        ("ray", "ray first batch", "mpqueue"),
    ]


def test_nothing_is_planned_where_there_is_no_ray_and_a_word_says_so(without_ray):
    made = script("parts.benchmark.ray_workloads")
    assert script("parts.benchmark.rounds").plan(WORKLOADS, [], 2, 0.1) == []
    absent = made.without_ray([*WORKLOADS, "tiny"])
    results = script("parts.benchmark.gather").Gathered([], 2, absent).results()
    lines = script("parts.benchmark.report").as_text(results).splitlines()
    assert [line for line in lines if "Ray" in line] == [
        f"{name}: Ray is not installed: not measured (python3 -m pip install '.[ray]')" for name in WORKLOADS
    ]


def test_every_workload_is_known_to_the_report_and_has_a_source_and_ways_that_are_there():
    made = script("parts.benchmark.ray_workloads")
    known = {made.OURS, made.LOCAL, *script("parts.benchmark.ray_peers").PEERS}
    for name, workload in made.RAY.items():
        assert set(workload.peers) <= known
        assert workload.source in script("parts.benchmark.workloads").WORKLOADS
        assert script("parts.benchmark.results").KNOWN[name] is workload


def test_a_peer_may_fail_and_nothing_of_ours():
    measurement = script("parts.benchmark.measure").Measurement
    gathered = script("parts.benchmark.gather").Gathered(["mpqueue"], 2)
    gathered.add_failure(measurement("ray", "streaming_split", "ray image", 2, 0.1), RuntimeError("no pyarrow"))
    assert gathered.results().failed == {("ray image", "streaming_split"): "no pyarrow"}
    with pytest.raises(RuntimeError, match="broken"):
        gathered.add_failure(measurement("ray", "local workers", "ray decode", 2, 0.1), RuntimeError("broken"))


def test_goals_are_judged_by_the_figures_of_the_same_run():
    measurement = script("parts.benchmark.measure").Measurement
    gathered = script("parts.benchmark.gather").Gathered(["mpqueue"], 2)
    for workload, name, rate in (
        ("ray image", "mpqueue", 30.0),
        ("ray image", "plain actors", 10.0),
        ("ray small", "mpqueue", 400.0),
        ("ray small", "plain actors", 100.0),
        ("ray decode", "mpqueue", 9.0),
        ("ray decode", "local workers", 10.0),
    ):
        gathered.add(measurement("ray", name, workload, 2, 0.1), {"rate": [rate]})
    times = {"first batch from other nodes": [900.0, 6000.0, 700.0]}
    gathered.add(measurement("ray", "mpqueue", "ray first batch", 2, 0.1), times)
    lines = script("parts.benchmark.report").as_text(gathered.results()).splitlines()
    assert [line for line in lines if line.endswith(("reached", "MISSED"))] == [
        "ray image: 3.00 of plain actors, at least 1.5 wanted: reached",
        "ray small: 4.00 of plain actors, at least 5 wanted: MISSED",
        "ray decode: 0.90 of local workers, at least 0.9 wanted: reached",
        "first batch from other nodes: 900 ms (700 to 6,000), at most 5,000 wanted: reached",
    ]
