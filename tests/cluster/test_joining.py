"""Which cluster a loader joins, with which options and placement of workers, and the errors if it cannot."""

import ast
import itertools
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from helpers.ray_cluster import RandomBatches, agents, on, until

from mpqueue import GeneratorEnqueuer, Loader, OrderedEnqueuer, Server
from mpqueue.backends.ray import connect as joining
from mpqueue.backends.ray.placement import Room, around, moves, spread
from mpqueue.errors import ClusterError
from mpqueue.plan.options.ray_options import RayOptions


def outside(code, **environ):
    """The last line that a program in a separate process prints."""
    import os

    env = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"} | environ
    code = "import mpqueue\nfrom mpqueue import Loader\n" + code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=280, env=env)
    return (done.stdout.strip() or done.stderr.strip()).splitlines()[-1]


def test_error_without_cluster_names_ray_init_and_variable_or_that_ray_client_does_not_work():
    code = """
import os
def error_of():
    try:
        list(Loader([1], workers=1, backend="ray"))
    except mpqueue.errors.ClusterError as error:
        return str(error)
without = error_of()
os.environ["RAY_ADDRESS"] = "ray://127.0.0.1:1"
print([without, error_of()])
"""
    without, of_client = ast.literal_eval(outside(code))
    assert "ray.init" in without
    assert "RAY_ADDRESS" in without
    assert "Ray Client (ray://) does not" in of_client
    assert issubclass(ClusterError, RuntimeError)


def test_error_without_ray_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r'^mpqueue.backends.ray needs Ray: pip install "mpqueue\[ray\]"$'):
        Loader([1], workers=1, backend="ray")


def test_cluster_of_variable_is_joined(cluster):
    code = "loader = Loader([b'a', b'b', b'c'], workers=1, backend='ray')\nprint(list(loader)); loader.stop()"
    assert outside(code, RAY_ADDRESS=cluster.address) == "[b'a', b'b', b'c']"


@pytest.mark.parametrize(
    ("place", "found", "words"),
    [
        ("mpqueue.version.__version__", "9.9", r"expected mpqueue 9\.9, got .* on the node"),
        ("mpqueue.backends.ray.agents._python", lambda: "3.9", r"expected Python 3\.9, got 3\.\d+ on the node"),
    ],
    ids=["mpqueue", "Python"],
)
def test_error_for_other_version_names_the_node(cluster, monkeypatch, place, found, words):
    monkeypatch.setattr(place, found)
    loader = Loader(RandomBatches(), workers=1, backend="ray", ray_options=on(cluster.others[0].node_id))
    with pytest.raises(ClusterError, match=rf"node .*{cluster.others[0].node_id[:8]}.*: {words}"):
        next(iter(loader))
    until(lambda: not agents(), "the end of the agent")


def test_joining_node_with_other_version_is_logged_and_ignored(cluster, extra_node, monkeypatch, caplog):
    with Loader(RandomBatches(), workers=4, backend="ray") as loader:
        list(loader)
        monkeypatch.setattr("mpqueue.version.__version__", "9.9")
        node = extra_node()
        while not any(node.node_id[:8] in record.getMessage() for record in caplog.records):
            assert len(list(loader)) == 24
        assert [there.workers for there in loader.statistics().nodes][:2] == [2, 2]
        assert loader.statistics().deaths == 0
    assert "expected mpqueue" in caplog.text


def test_more_workers_than_room_is_an_error_if_cpus_were_requested(cluster):
    with pytest.raises(ClusterError, match="room for 4 workers, got workers=5"):
        next(iter(Loader(RandomBatches(), workers=5, backend="ray", ray_options={"num_cpus": 1})))
    with pytest.raises(ClusterError, match="room for 0 workers, got workers=1"):
        next(iter(Loader(RandomBatches(), workers=1, backend="ray", ray_options={"resources": {"quantum": 1}})))


def test_reachable_cluster_without_token_is_warned_of_once(cluster, caplog, monkeypatch):
    monkeypatch.setattr(joining, "_warned", set())
    joining.join()
    joining.join()
    messages = [record.getMessage() for record in caplog.records]
    assert [text for text in messages if "RAY_AUTH_MODE=token" in text] == messages[:1]
    caplog.clear()
    monkeypatch.setattr(joining, "_warned", set())
    monkeypatch.setattr(joining, "_has_tokens", lambda: True)
    joining.join()
    assert caplog.records == []


def test_runtime_environment_applies_to_all_workers(cluster):
    """Workers on the trainer's own node run under an agent, too: Ray creates the environment."""
    options = {"runtime_env": {"env_vars": {"MPQUEUE_TEST_PLACE": "there"}}}
    with Loader(Placed(8), workers=2, backend="ray", ray_options=options) as loader:
        assert [place for _, place, _ in loader] == ["there"] * 8
        assert len(agents()) == 2


class Placed(RandomBatches):
    def __getitem__(self, index):
        import os

        return super().__getitem__(index)[0], os.environ.get("MPQUEUE_TEST_PLACE"), 0


def test_room_on_a_node_counts_fractions_exactly():
    for cpus, per_worker, room in ((1.0, 0.1, 10), (8.0, 0.1, 80), (0.3, 0.1, 3), (7.0, 2, 3)):
        node = joining.Node("id", "127.0.0.1", {"CPU": cpus})
        assert joining.room_on(node, RayOptions(num_cpus=per_worker)) == room


OF_DEADLINE = "ray_options: deadline_s must be a number of seconds above 0"


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ([], TypeError, "ray_options must be a dict or None, got []"),
        ({"gpus": 1}, ValueError, "ray_options has no key 'gpus': its keys are num_cpus, resources, "),
        ({"num_cpus": True}, TypeError, "ray_options: num_cpus must be a number, got True"),
        ({"num_cpus": float("nan")}, ValueError, "ray_options: num_cpus must be a finite number, 0 or more, got nan"),
        ({"resources": [("a", 1)]}, TypeError, "ray_options: resources must be a dict of numbers by name, got [("),
        ({"resources": {1: 1}}, TypeError, "ray_options: the names in resources must be strings, got 1"),
        ({"resources": {"a": -1}}, ValueError, "ray_options: resources['a'] must be a finite number, 0 or more"),
        ({"resources": {"CPU": 1}}, ValueError, 'ray_options: resources must not contain "CPU": pass num_cpus instead'),
        ({"scheduling_strategy": "PACK"}, ValueError, 'ray_options: scheduling_strategy must be "DEFAULT", "SPREAD"'),
        ({"runtime_env": "env"}, TypeError, "ray_options: runtime_env must be a dict or None, got 'env'"),
        ({"deadline_s": 0}, ValueError, f"{OF_DEADLINE} and"),
        ({"deadline_s": 10**400}, ValueError, "ray_options: deadline_s must be a finite number, 0 or more, got 1000"),
        ({"deadline_s": 1e5}, ValueError, f"{OF_DEADLINE} and at most 86400 (a day), got 1"),
        ({"scheduling_strategy": np.zeros(2)}, TypeError, "ray_options: scheduling_strategy must be "),
    ],
    ids=range(14),
)
def test_wrong_option_is_named_at_construction(options, kind, text):
    with pytest.raises(kind, match=f"^{re.escape(text)}"):
        Loader([1], workers=1, backend="ray", ray_options=options)


def test_incompatible_options_are_a_value_error_in_all_frontends():
    for make in (
        lambda: Loader([1], backend="thread", ray_options={}),
        lambda: OrderedEnqueuer([1], True, ray_options={}),
        lambda: GeneratorEnqueuer(iter([1]), ray_options={}),
        lambda: Server("name", [1], ray_options={}),
        lambda: Server("name", [1], backend="thread"),
        lambda: OrderedEnqueuer([1], True, backend="thread"),
        lambda: Loader([1], backend="ray", start_method="fork"),
        lambda: Loader([1], backend="cluster"),
    ):
        with pytest.raises(ValueError, match=r"backend|ray_options"):
            make()


def test_without_workers_no_cluster_is_needed():
    assert list(Loader([1, 2], workers=0, backend="ray", ray_options={"num_cpus": 2})) == [1, 2]


ANY = [Room(node, float("inf")) for node in "abc"]


def test_workers_are_placed_evenly_in_order_of_nodes():
    assert spread(7, ANY) == ["a", "b", "c", "a", "b", "c", "a"]


def test_full_node_gets_no_worker_while_others_have_room():
    assert Counter(spread(6, [Room("a", 1), Room("b", 4), Room("c", 2)])) == {"a": 1, "b": 3, "c": 2}


def test_least_crowded_node_gets_worker_if_all_are_full():
    assert Counter(spread(9, [Room("a", 1), Room("b", 2)])) == {"a": 3, "b": 6}


def test_new_node_gets_its_share_of_the_last_workers():
    assert moves({0: "a", 1: "b", 2: "a", 3: "b"}, ANY) in ({3: "c"}, {2: "c"})


def test_after_moves_nodes_are_balanced_within_their_room():
    for rooms, crowded in itertools.product(itertools.product([1, 2, 9], repeat=3), itertools.product("abc", repeat=5)):
        nodes = [Room(node, room) for node, room in zip("abc", rooms, strict=True)]
        places = dict(enumerate(crowded))
        after = places | moves(places, nodes)
        assert moves(after, nodes) == {}
        load = Counter(after.values())
        for one, two in itertools.permutations(nodes, 2):
            assert load[one.node] - load[two.node] < 2 or load[two.node] >= two.workers


# Several trainers of one cluster that do not coordinate

NODES = [f"node {number}" for number in range(8)]


def test_trainer_fills_its_own_node_first_and_then_the_following_nodes():
    assert around("node 6", reversed(NODES)) == ["node 6", "node 7", *NODES[:6]]


def test_trainers_on_all_nodes_load_all_nodes_equally():
    for num_workers in (1, 3, 8, 12):
        load = Counter()
        for own in NODES:
            load.update(spread(num_workers, [Room(node, float("inf")) for node in around(own, NODES)]))
        assert load == dict.fromkeys(NODES, num_workers)
