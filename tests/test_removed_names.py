"""Names and arguments that are not offered say what to use instead."""

import pytest

import mpqueue

LISTED = list(range(8))
STREAM = mpqueue.Dataset(lambda: iter(LISTED))
MISSING = [
    (lambda: mpqueue.Blocks, AttributeError, "shuffle"),
    (lambda: mpqueue.connect, AttributeError, "mpqueue.attach"),
    (lambda: mpqueue.train.connect, AttributeError, "mpqueue.Server"),
    (lambda: mpqueue.train.ClusterSpec, AttributeError, "mpqueue.Server"),
    (lambda: mpqueue.train.Supervisor, AttributeError, "Coordinator"),
    (lambda: mpqueue.train.MonitoredTrainingSession, AttributeError, "start_queue_runners"),
    (lambda: mpqueue.Loader(LISTED, monitor=True), TypeError, "MPQUEUE_TRACE"),
    (lambda: mpqueue.Loader(LISTED, loop_factory=None), TypeError, "set_event_loop_policy"),
    (lambda: mpqueue.Balance(LISTED, apply=False), TypeError, "bench --world"),
    (lambda: mpqueue.Balance(LISTED, max_cost=9, long="alone"), TypeError, "larger max_cost"),
    (lambda: mpqueue.Loader(STREAM).explain(0, 0), ValueError, "load_state_dict"),
    (lambda: mpqueue.Loader(STREAM).compute(0, 0), ValueError, "load_state_dict"),
    (lambda: mpqueue.Loader(STREAM).seek(0, 0), ValueError, "load_state_dict"),
    (lambda: mpqueue.Server("s", LISTED).exclude([1]), AttributeError, "exclude=ids"),
    (lambda: mpqueue.Server("s", LISTED).set_weights([1]), AttributeError, "a Loader can change them"),
    (lambda: mpqueue.attach("s", join="replay"), ValueError, "each batch once"),
]


@pytest.mark.sample(4)
@pytest.mark.parametrize(("call", "kind", "remedy"), MISSING)
def test_error_names_what_to_use_instead(call, kind, remedy):
    with pytest.raises(kind, match=remedy):
        call()
