"""Queue scripts: every step runs in a separate thread of one session, and can block."""

import numpy as np
from golden.outcomes import Background
from golden.topics import queues

import mpqueue.compat.v1 as tf


def run(case, folder):
    with tf.Graph().as_default():
        Script(case.get("random", False)).run(case)


class Made:
    """A queue of the graph, and its queue in the session."""

    def __init__(self, queue, session):
        self.node = queue
        self.dtypes, self.names = [dtype.name for dtype in queue.dtypes], queue.names
        self.shapes = [None if shape.ndims is None else shape.as_list() for shape in queue.shapes]
        self.queue_ref = session.run(queue.queue_ref)

    def __getattr__(self, name):
        return getattr(self.node, name)


class Script(queues.Script):
    """The same steps on nodes."""

    def __init__(self, is_random):
        super().__init__(is_random)
        self.session = tf.Session()
        self.graph = tf.get_default_graph()
        tf.no_op()  # a session cannot run an empty graph

    def made_queue(self, name, *args, **options):
        return Made(getattr(tf, name)(*args, **options), self.session)

    def call(self, step):
        self.feeds = {}  # of this step; its nodes exist before the next one starts
        call = Background(_Caller(self.session, self.feeds).run, lambda: self.made(step))
        self.running.append(call)
        self.settle()
        return call

    def made(self, step):
        with self.graph.as_default():
            return self.body(step)

    def enqueue(self, queue, do, vals):
        return getattr(queue, do)(self.fed(vals))

    def dequeue(self, queue, do, count):
        return getattr(queue, do)(self.fed(np.int32(count)))

    def selected(self, index, queues):
        return Made(tf.QueueBase.from_list(index, [getattr(queue, "node", queue) for queue in queues]), self.session)

    def fed(self, vals):
        """Convert typed arrays to placeholders. Their shapes are only known when they are fed."""
        if isinstance(vals, dict):
            return {key: self.fed(value) for key, value in vals.items()}
        if isinstance(vals, list):
            return [self.fed(value) for value in vals]
        node = tf.placeholder(vals.dtype)  # of any shape
        self.feeds[node] = vals
        return node


class _Caller:
    """Run the node that a step created."""

    def __init__(self, session, feeds):
        self._session, self._feeds = session, feeds

    def run(self, body):
        made = body()
        if made is None or isinstance(made, Made):
            return made
        return self._session.run(made, self._feeds)
