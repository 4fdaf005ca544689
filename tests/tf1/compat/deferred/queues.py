"""Queue scripts: every step runs in a separate thread of one session, and can block."""

import numpy as np
from golden.outcomes import Background
from golden.topics import queues

import mpqueue.compat.v1 as tf


def run(case, session):
    tf.no_op()  # a session cannot run an empty graph
    Script(case.get("random", False), session).run(case)


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

    def __init__(self, is_random, session):
        super().__init__(is_random)
        self.session = session

    def made_queue(self, name, *args, **options):
        return Made(getattr(tf, name)(*args, **options), self.session)

    def call(self, step):
        self.feeds = {}  # of this step; its nodes exist before the next one starts
        call = Background(_run_made, self.session, self.feeds, lambda: self.made(step))
        self.running.append(call)
        self.settle()
        return call

    def made(self, step):
        with self.session.graph.as_default():
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


def _run_made(session, feeds, body):
    """Run the node that a step creates."""
    made = body()
    return made if made is None or isinstance(made, Made) else session.run(made, feeds)
