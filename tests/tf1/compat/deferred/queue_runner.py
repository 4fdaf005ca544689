"""QueueRunner scripts: finite sources, run by a runner in a session, and observed from outside."""

import threading

import numpy as np
from golden.topics import queue_runner
from golden.topics.queue_runner import DEADLOCK_S, Values, error_class, outcome, run_steps

import mpqueue.compat.v1 as tf
from mpqueue.tf1.compat.graph.make import custom


def run(case, folder):
    with tf.Graph().as_default():
        if "create" in case:
            assert outcome(lambda: Script(case["runner"])) == case["create"]
            return
        hook = threading.excepthook
        threading.excepthook = lambda args: None  # a runner without a coordinator raises in its threads on purpose
        try:
            run_steps(Script(case["runner"]), case["steps"])
        finally:
            threading.excepthook = hook


class GatedSession(tf.Session):
    """Delay every thread of a runner until it was observed, because a thread could end before."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()

    def run(self, *args):
        assert self.gate.wait(DEADLOCK_S)
        return super().run(*args)

    def make_callable(self, *args):
        assert self.gate.wait(DEADLOCK_S)
        return super().make_callable(*args)


class Queue:
    """The queue of the graph, with the methods that the steps use."""

    def __init__(self, node, session):
        self._session, self.name = session, node.name
        self._dequeue, self._size, self._is_closed = node.dequeue(), node.size(), node.is_closed()
        self._close, self._cancel = node.close(), node.close(cancel_pending_enqueues=True)

    def dequeue(self, timeout):
        return self._session.run(self._dequeue)

    def size(self):
        return self._session.run(self._size)

    def is_closed(self):
        return self._session.run(self._is_closed)

    def close(self, cancel_pending_enqueues=False):
        self._session.run(self._cancel if cancel_pending_enqueues else self._close)


class Script(queue_runner.Script):
    """The same steps on nodes."""

    def __init__(self, spec):
        node = tf.FIFOQueue(spec["capacity"], np.int32, shapes=[()], name="runq")
        self.session = GatedSession()
        self.session.gate.set()
        self.queue = Queue(node, self.session)
        ops = [node.enqueue(source(values)) for values in spec["sources"]] * spec.get("same_op_times", 1)
        options = {}
        if "closed_types" in spec:
            options["queue_closed_exception_types"] = tuple(error_class(name) for name in spec["closed_types"])
        self.own_op_runs = {"close": 0, "cancel": 0}
        if spec.get("own_ops"):
            options |= {
                "close_op": self.counted("close", node.close()),
                "cancel_op": self.counted("cancel", node.close(cancel_pending_enqueues=True)),
            }
        self.options = options
        self.runner = tf.train.QueueRunner(node, ops, **options)
        self.coord = tf.train.Coordinator() if spec.get("coord", True) else None
        self.groups = {}

    def counted(self, what, op):
        def kernel(_run, _inputs):
            self.own_op_runs[what] += 1
            return ()

        with tf.control_dependencies([op]):
            return custom("Counted", (), (), kernel)

    def end(self):
        self.session.gate.set()
        if self.coord is not None:
            self.coord.clear_stop()
            self.coord.request_stop()
        self.session.close()
        for thread in (thread for group in self.groups.values() for thread in group):
            if thread.ident is not None:
                thread.join(DEADLOCK_S)
            assert not thread.is_alive(), thread

    def do_attrs(self, step):
        return super().do_attrs(step) | {"queue_is_q": self.runner.queue.name == self.queue.name}


def source(values):
    """Create a node that returns the values, one per run, and then raises."""
    take = Values(values)
    return custom("Source", (), [(tf.int32, ())], lambda _run, _inputs: [np.asarray(take())]).outputs[0]
