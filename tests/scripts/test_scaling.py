"""The simulation of clusters: what is known beforehand, what is conserved, and which resource is the limit."""

import json
import subprocess
import sys
from collections import Counter

import pytest
from helpers.pages import DOCS
from helpers.scripts import SCRIPTS, script

cluster = script("parts.scaling.cluster")
layouts = script("parts.scaling.layouts")
paper = script("parts.scaling.paper")
simulation = script("parts.scaling.simulation")
clock = script("parts.scaling.clock")
table = script("parts.scaling.table")

# Nothing costs anything but the computing of batches, 10 ms each.
FREE = {
    "batch_mb": 1.0,
    "batch_ms": 10.0,
    "jitter": 0.0,
    "link_gbps": 1e9,
    "latency_us": 0.0,
    "stream_gb_s": 1e9,
    "memory_gb_s": 1e9,
    "record_us": 0.0,
    "relay_us": 0.0,
}


def free(**changes):
    return cluster.Cluster(**FREE | changes)


def test_events_come_in_the_order_of_their_times_and_equal_ones_as_they_were_asked_for():
    made, came = clock.Clock(), []
    for seconds, name in ((2.0, "late"), (1.0, "first"), (1.0, "second")):
        made.after(seconds, lambda name=name: came.append((made.now_s, name)))
    made.run(lambda: len(came) == 3)
    assert came == [(1.0, "first"), (1.0, "second"), (2.0, "late")]


def test_a_line_serves_one_after_the_other():
    made, came = clock.Clock(), []
    line = clock.Line(made)
    made.after(1.0, lambda: [line.serve(2.0, lambda: came.append((made.now_s, line.busy_s))) for _ in range(2)])
    made.after(9.0, lambda: line.serve(1.0, lambda: came.append((made.now_s, line.busy_s))))
    made.run(lambda: len(came) == 3)
    assert came == [(3.0, 2.0), (5.0, 4.0), (10.0, 5.0)]


def test_a_simulation_in_which_all_wait_for_all_is_an_error():
    with pytest.raises(RuntimeError, match="deadlock"):
        clock.Clock().run(lambda: False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nodes": 3, "trainers": 2}, "3 nodes cannot be divided equally among 2 trainers"),
        ({"workers": 0}, "at least 1"),
        ({"layout": "far"}, "layout must be one of near, all"),
        ({"jitter": 1.0}, "jitter"),
        ({"link_gbps": 0.0}, "above 0"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        free(**changes)


@pytest.mark.parametrize("layout", ["near", "all"])
@pytest.mark.parametrize("trainers", [1, 2, 8])
def test_each_worker_of_each_node_feeds_one_trainer(layout, trainers):
    fed = layouts.feeds(free(nodes=8, workers=4, trainers=trainers, layout=layout))
    assert Counter(node for feed in fed for node in feed.nodes) == dict.fromkeys(range(8), 4)
    assert len({feed.home for feed in fed}) == trainers
    assert all(feed.home in feed.nodes for feed in fed)


def test_one_worker_gives_a_batch_in_the_time_that_it_takes():
    assert simulation.outcome(free(nodes=1, workers=1)).rate == pytest.approx(100.0)


@pytest.mark.parametrize(("under_way", "share"), [(10, 0.25), (64, 0.86), (128, 0.99)])
def test_workers_are_as_busy_as_the_guide_says_with_so_many_batches_under_way(under_way, share):
    """In order, one that takes long holds up what is behind it."""
    found = simulation.outcome(cluster.Cluster(nodes=1, workers=32, credit=under_way))
    assert found.shares["workers"] == pytest.approx(share, abs=0.02)
    assert f"{share:.0%}".removesuffix("%") in (DOCS / "clusters.md").read_text("utf-8")


def test_one_batch_under_way_waits_for_the_way_there_and_back():
    """10 ms to compute, 5 ms for its grant and 5 for itself; and every second one comes from the trainer's own node."""
    found = simulation.outcome(free(nodes=2, workers=1, latency_us=5000.0, credit=1))
    assert found.rate == pytest.approx(1 / 0.015)


# The one thing that is slow: its option and value, and the batches per second that come through it. There are 2 nodes,
# whose 32 workers could give 3,200 together.
NARROW = {
    "link into the trainer": ("link_gbps", 1.0, 125.0),
    "connection": ("stream_gb_s", 0.2, 200.0),
    "interpreter": ("record_us", 1000.0, 1000.0),
    "training step": ("step_ms", 4.0, 250.0),
    "workers": ("batch_ms", 50.0, 640.0),
}


def narrowed(name, times=1.0):
    option, value, _ = NARROW[name]
    is_cost = option in ("record_us", "step_ms", "batch_ms")
    return free(nodes=2, workers=16, **{option: value / times if is_cost else value * times})


@pytest.mark.parametrize("name", NARROW)
def test_what_is_slow_is_the_limit_in_the_simulation_and_on_paper(name):
    """With two nodes, both ends of a link are as busy. What every batch needs gives the rate."""
    found, (limit, bound) = simulation.outcome(narrowed(name)), paper.limit(narrowed(name))
    assert found.shares[found.limit] == found.shares[name] == pytest.approx(1.0, abs=0.03)
    assert limit == name
    assert found.rate <= bound * 1.01
    if name in ("interpreter", "training step", "workers"):
        assert [bound, found.rate] == pytest.approx([NARROW[name][2]] * 2, rel=0.03)


def test_the_limit_moves_when_it_is_widened():
    """Sixteen times the network, and the workers are too few."""
    assert simulation.outcome(narrowed("link into the trainer", 64)).limit == "workers"
    assert paper.limit(narrowed("link into the trainer", 64))[0] == "workers"


def test_copies_of_what_arrives_take_memory():
    once, thrice = (
        simulation.outcome(free(nodes=5, workers=16, memory_gb_s=2.0, copies=copies)) for copies in (1.0, 3.0)
    )
    assert once.limit == thrice.limit == "memory"
    assert once.rate > 1.5 * thrice.rate


def test_trainers_on_their_own_nodes_need_no_network():
    found = simulation.outcome(free(nodes=4, workers=4, trainers=4, link_gbps=0.001))
    assert found.rate == pytest.approx(1600.0, rel=0.01)
    assert found.shares["link into the trainer"] == 0


def test_a_seed_gives_the_same_figures_at_each_run():
    varied = free(nodes=2, workers=4, jitter=0.5, link_gbps=3.0)
    first, again, other = (simulation.outcome(varied, seed)._replace(cpu_us=0.0) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("layout", ["near", "all"])
def test_nothing_is_lost_and_nothing_comes_twice(layout):
    """What was dealt is at a worker, ready, or handed out; and each of these has its slot."""
    with simulation.simulation(free(nodes=4, workers=3, trainers=2, layout=layout, jitter=0.9)) as made:
        made.run(500)
        assert made.num_taken == 500
        for trainer in made.trainers:
            ledger, slots = trainer.ledger, trainer.ring.slots
            assert ledger.head == ledger.num_batches == trainer.num_taken
            at_work = sum(len(handle.in_flight) for handle in trainer.handles.values())
            assert at_work + len(ledger.ready) == ledger.num_outstanding <= ledger.credit
            assert slots.num_slots - slots.num_free == ledger.num_outstanding + slots.num_leased
            assert slots.num_leased == 1


def test_the_trainers_together_get_every_batch_of_an_epoch_once(monkeypatch):
    with simulation.simulation(free(nodes=4, workers=2, trainers=4, jitter=0.5), num_batches=40) as made:
        got = Counter()
        for trainer in made.trainers:
            count = trainer.ledger.count
            monkeypatch.setattr(
                trainer.ledger,
                "count",
                lambda ticket, count=count: got.update([(ticket.epoch, ticket.unit)]) or count(ticket),
            )
        made.run(80)
    assert {number for (epoch, number) in got if epoch == 0} == set(range(40))
    assert set(got.values()) == {1}


def test_the_cost_of_a_batch_is_timed():
    assert 1 < script("parts.scaling.costs").record_us(free(nodes=1, workers=2)) < 10_000


def test_the_command_tells_the_limit(capsys, monkeypatch):
    command = script("parts.scaling.command")
    monkeypatch.setattr(sys, "argv", ["scaling", "--nodes", "2", "--workers", "4", "--link-gbps", "1"])
    assert command.main("") == 0
    out = capsys.readouterr().out
    assert "the limit: link into the trainer" in out
    assert "nodes: 2 with 4 workers each; trainers: 1 (near), with 32 batches under way to each" in out


def test_a_wrong_parameter_is_named():
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "scaling"), "--nodes", "3", "--trainers", "2"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "3 nodes cannot be divided equally among 2 trainers" in done.stderr


def test_the_committed_figures_are_of_the_cells_and_the_parameters_that_there_are():
    figures = json.loads(table.FIGURES.read_text("utf-8"))
    default = cluster.Cluster(record_us=figures["cluster"]["record_us"])
    assert all(getattr(default, name) == value for name, value in figures["cluster"].items())
    wanted = [about for about, _ in table.scenarios()]
    assert [{name: cell[name] for name in ("link_gbps", "layout", "batches")} for cell in figures["cells"]] == wanted


def test_the_guide_has_the_table_of_the_committed_figures():
    assert table.markdown(table.load()) in (DOCS / "clusters.md").read_text("utf-8")


def test_the_guide_tells_what_copies_cost_by_the_committed_figures():
    once, thrice = table.load()["copies"]
    assert (once["copies"], thrice["copies"], once["limit"], thrice["limit"]) == (1.0, 3.0, "memory", "memory")
    text = " ".join((DOCS / "clusters.md").read_text("utf-8").split())
    assert f"would take {once['rate']:,} of them per second" in text
    assert f"as by way of an object store, {thrice['rate']:,}." in text


def test_what_one_trainer_serves_is_timed_with_each_number_of_workers():
    served = script("parts.scaling.served")
    found = served.measure(num_rounds=1)
    assert set(found.dispatched_us) == set(served.WORKERS)
    assert all(1 < rounds[0] < 10_000 for rounds in found.dispatched_us.values())
    assert 1 < found.opened_us[0] < 10_000


@pytest.mark.parametrize(("slowest_us", "word"), [(12.0, "reached"), (13.0, "MISSED")])
def test_what_one_trainer_serves_is_told_of_the_best_rounds(slowest_us, word):
    served = script("parts.scaling.served")
    found = served.Served({16: [36.0, 10.0, 16.0], 32: [11.0] * 3, 64: [46.0, slowest_us, 26.0]}, [4.0, 5.0, 4.0])
    assert found.rate(16) == pytest.approx(1e6 / 14)
    lines = served.report(found)
    assert lines[1].split() == ["16", "10.0", "16.0", "71,429"]
    assert lines[-2] == "the rate with 64 workers is 0.80 of that with 16, the middle of all rounds"
    assert lines[-1] == f"60,000 batches/s wanted: {word}"
