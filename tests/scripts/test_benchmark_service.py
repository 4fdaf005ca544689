"""The benchmark's workloads of the service: servers, their consumers, and those who are measured beside them."""

import signal
import subprocess
import sys
import types
from itertools import islice

import pytest
from helpers.scripts import script

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the service needs Linux")

# Sleeps as often as each line says, and answers it.
SLEEPING = """
import sys, time
for line in sys.stdin:
    for _ in range(int(line)):
        time.sleep(0.001)
    print(line, end="", flush=True)
"""


def measured(workload, name, num_workers=1):
    """In a process of its own, as the benchmark does it."""
    made = script("parts.benchmark.measure").Measurement("service", name, workload, num_workers, 0.02)
    return made.in_fresh_process()


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["service tiny", "service broadcast", "service split small"])
def test_a_server_is_measured_with_the_memory_of_its_ring(workload):
    found = measured(workload, "mpqueue")
    assert set(found) == {"rate", "ring MB"}
    assert found["rate"][0] > 0
    assert found["ring MB"][0] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("workload", "name"), [("service broadcast", "one consumer"), ("service tiny", "one loader")])
def test_what_a_server_is_compared_with_has_a_rate(workload, name):
    assert measured(workload, name)["rate"][0] > 0


@pytest.mark.slow
def test_trainers_with_loaders_of_their_own_have_a_rate():
    """Of another workload than the benchmark's, which decodes photographs that would have to be cut first."""
    made = script("parts.benchmark.service")
    assert made._rate_of_loaders(made.SERVICE["service tiny"], 2, 1, 0.02) > 0


@pytest.mark.slow
@pytest.mark.parametrize("peer", ["tf.data service", "tensorsocket"])
def test_a_peer_is_measured(peer, request):
    if not request.config.getoption("--peers"):
        pytest.skip("peers are tried with --peers")
    if peer in script("parts.benchmark.service_peers").absent():
        pytest.skip(f"{peer} is not installed")
    assert measured("service peers", peer)["rate"][0] > 0


@pytest.mark.slow
def test_the_first_attach_of_a_process_is_told_apart_from_later_ones():
    made = script("parts.benchmark.service_attach")
    found = measured("service attach", "mpqueue")
    assert {name: len(times) for name, times in found.items()} == {
        "attach, the first of its process": made.NUM_PROCESSES,
        "attach": made.NUM_PROCESSES * made.REPEATS,
    }
    assert min(map(min, found.values())) > 0


@pytest.mark.slow
def test_idle_servers_and_consumers_are_measured(monkeypatch):
    made = script("parts.benchmark.service_idle")
    monkeypatch.setattr(made, "SETTLE_S", 0.01)
    found = made.idle(1, 0.01)
    assert list(found) == [
        "CPU seconds of server",
        "CPU seconds of consumers",
        "wake-ups of server",
        "wake-ups of consumers",
    ]
    assert min(found.values()) >= 0


def test_every_sleep_of_a_process_counts_as_a_wake_up():
    used = script("parts.benchmark.service_idle").used
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen([sys.executable, "-c", SLEEPING], **pipes) as process:

        def sleep(times):
            process.stdin.write(f"{times}\n")
            assert process.stdout.readline() == f"{times}\n"
            return used([process.pid])

        before, after = sleep(1), sleep(50)
    assert after.wake_ups - before.wake_ups >= 50
    assert after.cpu_s > before.cpu_s


def test_each_trainer_counts_its_own_batches():
    made = script("parts.benchmark.trainers")
    with made.running_trainers(2, _some_then_waiting) as trainers:
        while list(trainers.counts) != [1, 2]:
            assert trainers.await_batches(1)  # or one has ended
        assert not trainers.await_batches(2, seconds=0)


def _some_then_waiting(which):
    yield from range(1 + which)
    signal.pause()  # until it is killed


def test_trainers_that_end_are_an_error():
    made = script("parts.benchmark.trainers")
    with made.running_trainers(2, lambda which: iter(())) as trainers:
        with pytest.raises(RuntimeError, match="of 2 trainers have ended"):
            trainers.rate(1, 0.01)


def test_a_rate_is_of_all_trainers_together(monkeypatch):
    """One batch each while nobody looked, and 60 and 40 afterwards, in two seconds."""
    made = script("parts.benchmark.trainers")
    counts, clock = [1, 1], iter([10.0, 12.0])
    monkeypatch.setattr(made, "WARM_UP_S", 0)
    monkeypatch.setattr(made.Trainers, "await_batches", lambda *_: True)
    times = types.SimpleNamespace(
        perf_counter=lambda: next(clock), sleep=lambda s: s and counts.__setitem__(slice(None), [61, 41])
    )
    monkeypatch.setattr(made, "time", times)
    assert made.Trainers([], counts).rate(1, 2.0) == 50.0


@pytest.mark.parametrize(
    ("options", "ranks"),
    [
        ({"mode": "split", "world": 2}, [0, 1]),
        ({"mode": "split", "world": None}, [None, None]),
        ({"mode": "broadcast", "world": 2}, [None, None]),
    ],
)
def test_only_the_consumers_of_a_ranked_split_have_ranks(options, ranks):
    attached = script("parts.benchmark.service")._attached
    assert [attached(types.SimpleNamespace(batches=lambda rank: rank), options, which) for which in range(2)] == ranks


def test_a_consumer_may_come_after_another_has_left():
    made = script("parts.benchmark.served")
    with made.served(lambda: script("parts.benchmark.workloads").WORKLOADS["tiny"].make(), workers=1) as server:
        assert [len(list(islice(server.batches(), 3))) for _ in range(2)] == [3, 3]


def test_a_source_that_fails_is_an_error_and_nothing_is_left():
    def failing():
        raise ValueError("no source")

    with pytest.raises(EOFError), script("parts.benchmark.served").served(failing):
        raise AssertionError("it does not serve")


def test_every_way_to_measure_is_known():
    """A misspelt name would be taken for a server's."""
    made = script("parts.benchmark.service")
    known = {
        made.OURS,
        made.ONE_CONSUMER,
        made.ONE_LOADER,
        made.OWN_LOADERS,
        *script("parts.benchmark.service_peers").PEERS,
    }
    for workload in made.SERVICE.values():
        assert set(workload.peers) <= known
        assert workload.source in script("parts.benchmark.workloads").WORKLOADS


@pytest.fixture
def without_peers(monkeypatch):
    peers = script("parts.benchmark.service_peers").PEERS
    for name, (_, peer) in list(peers.items()):
        monkeypatch.setitem(peers, name, ("no_such_package_at_all", peer))


def test_a_peer_that_is_not_installed_is_not_planned_and_named(without_peers):
    planned = script("parts.benchmark.rounds").plan(["service peers"], [], 2, 0.1)
    assert [(one.what, one.name) for one in planned] == [("service", "mpqueue")]
    results = script("parts.benchmark.results").Results({("service peers", "mpqueue"): [1.0]}, {})
    lines = script("parts.benchmark.report").as_text(results).splitlines()
    assert [line for line in lines if line.startswith("service peers:")][1:] == [
        "service peers: tf.data service is not installed: not measured (python3 -m pip install --group peers)",
        "service peers: tensorsocket is not installed: not measured (python3 -m pip install --group peers)",
    ]


def test_a_report_of_other_workloads_names_no_peer_of_the_service(without_peers):
    results = script("parts.benchmark.results").Results({("tiny", "mpqueue"): [1.0]}, {})
    assert "tf.data service" not in script("parts.benchmark.report").as_text(results)


def test_rates_and_other_figures_are_gathered():
    measurement = script("parts.benchmark.measure").Measurement
    gathered = script("parts.benchmark.gather").Gathered(["mpqueue"], 2)
    one = measurement("service", "mpqueue", "service broadcast", 2, 0.1)
    for rate in (1.0, 2.0):
        gathered.add(one, {"rate": [rate], "ring MB": [3.0]})
    gathered.add(measurement("service", "mpqueue", "service attach", 2, 0.1), {"attach": [4.0, 5.0]})
    results = gathered.results()
    assert results.rates == {("service broadcast", "mpqueue"): [1.0, 2.0]}
    assert results.service == {
        ("service broadcast", "mpqueue"): {"ring MB": [3.0, 3.0]},
        ("service attach", "mpqueue"): {"attach": [4.0, 5.0]},
    }


def test_a_peer_may_fail_and_nothing_of_ours():
    measurement = script("parts.benchmark.measure").Measurement
    gathered = script("parts.benchmark.gather").Gathered(["mpqueue"], 2)
    gathered.add_failure(measurement("service", "tensorsocket", "service peers", 2, 0.1), RuntimeError("no ports"))
    assert gathered.results().failed == {("service peers", "tensorsocket"): "no ports"}
    with pytest.raises(RuntimeError, match="broken"):
        gathered.add_failure(measurement("service", "own loaders", "service decode", 2, 0.1), RuntimeError("broken"))


def test_figures_that_are_not_reached_are_called_missed():
    service = {
        ("service attach", "mpqueue"): {"attach, the first of its process": [30.0], "attach": [2.0, 3.0, 40.0]},
        ("service broadcast", "mpqueue"): {"ring MB": [120.0, 100.0]},
        ("service broadcast", "one consumer"): {"ring MB": [100.0, 100.0]},
        ("service idle", "mpqueue"): {"CPU seconds of server": [0.0], "wake-ups of server": [3]},
    }
    rates = {
        ("service tiny", "mpqueue"): [24_000.0],
        ("service broadcast", "mpqueue"): [39.0, 39.0],
        ("service broadcast", "one consumer"): [10.0, 10.0],
    }
    results = script("parts.benchmark.results").Results(rates, {}, service=service)
    lines = script("parts.benchmark.report").as_text(results).splitlines()
    assert [line for line in lines if line.endswith(("reached", "MISSED"))] == [
        "service broadcast: 3.90 of one consumer, at least 3.8 wanted: reached",
        "service tiny, mpqueue: 24,000 batches/s, at least 25,000 wanted: MISSED",
        "attach, the first of its process: 30.0 ms to the first batch (30.0 to 30.0), at most 20 wanted: MISSED",
        "attach: 3.0 ms to the first batch (2.0 to 40.0), at most 20 wanted: reached",
        "service broadcast: 1.10 of the ring of one consumer (100 MB), at most 1.05 wanted: MISSED",
        "service idle: 0 CPU seconds of server in 5 s, none wanted: reached",
        "service idle: 3 wake-ups of server in 5 s, none wanted: MISSED",
    ]
