"""`ray_options` is checked before anything starts, and names what is wrong."""

import pytest

from mpqueue import GeneratorEnqueuer, Loader, OrderedEnqueuer, Server
from mpqueue.engine.ray_options import RayOptions


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ([], TypeError, "must be a dict"),
        ({"gpus": 1}, ValueError, "no key 'gpus'"),
        ({"num_cpus": "2"}, TypeError, "num_cpus"),
        ({"num_cpus": True}, TypeError, "num_cpus"),
        ({"num_cpus": -1}, ValueError, "num_cpus"),
        ({"num_cpus": float("nan")}, ValueError, "num_cpus"),
        ({"resources": [("a", 1)]}, TypeError, "resources"),
        ({"resources": {1: 1}}, TypeError, "resources"),
        ({"resources": {"a": "b"}}, TypeError, "'a'"),
        ({"resources": {"a": -1}}, ValueError, "'a'"),
        ({"resources": {"CPU": 1}}, ValueError, "num_cpus"),
        ({"scheduling_strategy": "PACK"}, ValueError, "scheduling_strategy"),
        ({"scheduling_strategy": 3}, TypeError, "scheduling_strategy"),
        ({"runtime_env": "env"}, TypeError, "runtime_env"),
        ({"deadline_s": 0}, ValueError, "deadline_s"),
        ({"deadline_s": None}, TypeError, "deadline_s"),
    ],
    ids=str,
)
def test_a_wrong_option_is_named_at_construction(options, kind, text):
    with pytest.raises(kind, match=text):
        Loader([1], workers=1, backend="ray", ray_options=options)


@pytest.mark.parametrize("backend", ["process", "thread"])
def test_ray_options_with_another_backend_is_an_error(backend):
    with pytest.raises(ValueError, match="ray_options is about"):
        Loader([1], workers=1, backend=backend, ray_options={})


@pytest.mark.parametrize(
    "make",
    [
        lambda: OrderedEnqueuer([1], True, ray_options={}),
        lambda: OrderedEnqueuer([1], backend="process", ray_options={}),
        lambda: GeneratorEnqueuer(iter([1]), ray_options={}),
        lambda: Server("name", [1], ray_options={}),
        lambda: Server("name", [1], backend="thread"),
        lambda: OrderedEnqueuer([1], True, backend="thread"),
        lambda: Loader([1], backend="ray", start_method="fork"),
        lambda: Loader([1], backend="cluster"),
    ],
    ids=range(8),
)
def test_what_does_not_fit_together_is_a_value_error_in_all_faces(make):
    with pytest.raises(ValueError, match=r"backend|ray_options"):
        make()


def test_without_workers_the_caller_computes_and_nobody_asks_for_a_cluster():
    assert list(Loader([1, 2], workers=0, backend="ray", ray_options={"num_cpus": 2})) == [1, 2]


def test_defaults_are_what_is_documented():
    options = RayOptions.of(None)
    assert (options.num_cpus, dict(options.resources), options.scheduling_strategy, options.deadline_s) == (
        None,
        {},
        None,
        30.0,
    )
