"""`ray_options` is checked before anything starts, and errors name the wrong option."""

import re

import numpy as np
import pytest

from mpqueue import GeneratorEnqueuer, Loader, OrderedEnqueuer, Server

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
