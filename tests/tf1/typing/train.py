"""Typical calls of coordinators, sources, sessions and queue runners, checked by mypy and never run."""

import sys
import threading
from typing import assert_type

import numpy as np

import mpqueue
from mpqueue.train import LooperThread, QueueRunner, QueueRunnerDef


def coordinate() -> None:
    coord = mpqueue.Coordinator(clean_stop_exception_types=[StopIteration])
    with coord.stop_on_exception():
        while not coord.should_stop() and not coord.wait_for_stop(timeout=0.5):
            coord.request_stop()
    coord.request_stop(ValueError("boom"))
    coord.request_stop(sys.exc_info())
    thread = threading.Thread(target=coordinate)
    coord.register_thread(thread)
    coord.register_thread(mpqueue.Loader(np.zeros((3, 2))))
    coord.register_thread(mpqueue.OrderedEnqueuer(np.zeros((3, 2))))
    coord.add_stop_callback(thread.join)
    coord.remove_stop_callback(thread.join)
    coord.join([thread], stop_grace_period_secs=1.5, ignore_live_threads=True)
    coord.raise_requested_exception()
    coord.clear_stop()
    assert_type(coord.joined, bool)
    LooperThread.loop(coord, 0.5, print, args=("tick",), kwargs={"flush": True})


def run() -> None:
    source = mpqueue.Source(iter([1, 2]).__next__, np.int32, shapes=())
    pairs = source.map(lambda value: [value, value], dtypes=["int32", "int32"], shapes=[(), ()], names=["a", "b"])
    if pairs.is_resumable:
        pairs.load_state_dict(pairs.state_dict())
    queue = mpqueue.FIFOQueue(10, np.int32, ())
    ops = [queue.enqueue_op(source, name="fill"), queue.enqueue_many_op(source)]
    runner = QueueRunner(queue, ops, queue_closed_exception_types=(mpqueue.errors.OutOfRangeError,))
    mpqueue.add_queue_runner(runner)
    coord = mpqueue.Coordinator()
    with mpqueue.Session() as session:
        threads: list[threading.Thread] = mpqueue.start_queue_runners(session, coord, daemon=False, start=True)
        threads += runner.create_threads(sess=session, coord=coord, daemon=True, start=True)
        session.run(ops[0])
        session.make_callable(ops[1])()
    with mpqueue.get_default_session().as_default() as default:
        default.close()
    definition: QueueRunnerDef | None = runner.to_proto(export_scope="input")
    if definition is not None:
        again: list[QueueRunner] = [QueueRunner.from_proto(definition, import_scope="input")]
        assert again != mpqueue.get_queue_runners()
    assert_type(runner.exceptions_raised, list[BaseException])
    assert_type(runner.name, str)
    mpqueue.reset_default_graph()
