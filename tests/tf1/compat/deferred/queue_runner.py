"""QueueRunner scripts: finite sources, run by a runner in a session, and observed from outside."""

import numpy as np
from golden.topics import queue_runner
from golden.topics.queue_runner import Gated, Values, run_script

import mpqueue.compat.v1 as tf
from mpqueue.tf1.compat.graph.make import custom


def run(case, _session):
    run_script(case, Script)


class GatedSession(Gated, tf.Session):
    """A session of the graph."""

    def repeated(self, op):
        assert self.gate.wait(queue_runner.DEADLOCK_S)
        return super().repeated(op)


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

    session_class, functions = GatedSession, tf.train

    def make(self, spec):
        node = tf.FIFOQueue(spec["capacity"], np.int32, shapes=[()], name="runq")
        self.queue = Queue(node, self.session)
        close, cancel = node.close(), node.close(cancel_pending_enqueues=True)
        own_ops = {"close_op": self.counted("close", close), "cancel_op": self.counted("cancel", cancel)}
        return node, [node.enqueue(source(values)) for values in spec["sources"]], own_ops

    def counted(self, what, op):
        def kernel(_run, _inputs):
            self.own_op_runs[what] += 1
            return ()

        with tf.control_dependencies([op]):
            return custom("Counted", (), (), kernel)

    def do_attrs(self, step):
        return super().do_attrs(step) | {"queue_is_q": self.runner.queue.name == self.queue.name}


def source(values):
    """Create a node that returns the values, one per run, and then raises."""
    take = Values(values)
    return custom("Source", (), [(tf.int32, ())], lambda _run, _inputs: [np.asarray(take())]).outputs[0]
