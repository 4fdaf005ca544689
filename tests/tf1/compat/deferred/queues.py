"""Queue scripts: every step runs in a separate thread of one session, and can block."""

import numpy as np
from golden.topics import queues
from golden.topics.queues import Call, Unusable, arrays, examples, is_error, raw
from golden.values import decode

import mpqueue.compat.v1 as tf


def run(case, folder):
    with tf.Graph().as_default():
        script = Script(case.get("random", False))
        try:
            if script.make_queues(case["queues"], case.get("create")):
                for number, step in enumerate(case["steps"]):
                    script.play(step, f"step {number} {step}")
        finally:
            script.end()


class Made:
    """A queue of the graph, and its queue in the session."""

    def __init__(self, queue, session):
        self.node, self._session = queue, session
        self.dtypes, self.names = [dtype.name for dtype in queue.dtypes], queue.names
        self.shapes = [None if shape.ndims is None else shape.as_list() for shape in queue.shapes]
        self.queue_ref = session.run(queue.queue_ref)


class Script(queues.Script):
    """The same steps on nodes."""

    def __init__(self, is_random):
        super().__init__(is_random)
        self.session = tf.Session()
        self.graph = tf.get_default_graph()
        tf.no_op()  # a session cannot run an empty graph

    def make_queues(self, documents, expected_error):
        for name, document in documents.items():
            try:
                args = dict(document["args"])
                queue = getattr(tf, document["class"])(args.pop("capacity"), **args)
                self.queues[name] = Made(queue, self.session)
            except Exception as error:
                if expected_error is not None:
                    queues.assert_error(error, expected_error, document)
                    return False
                self.queues[name] = Unusable(error)
        assert expected_error is None, f"expected {expected_error}"
        return True

    def call(self, step):
        feeds = {}
        call = Call(lambda: self.made(step, feeds), _Caller(self.session, feeds))
        self.running.append(call)
        self.settle()
        return call

    def made(self, step, feeds):
        with self.graph.as_default():
            return self.body(step, feeds)

    def body(self, step, feeds):
        queue = self.queues[step.get("on", "q")]
        node = getattr(queue, "node", queue)
        match step["do"]:
            case "enqueue" | "enqueue_many" as do:
                vals = decode(step["vals"])
                if self.is_random and not is_error(step.get("expect")):
                    self.waiting_examples.update(examples(arrays(vals), do == "enqueue_many", queue.names))
                return getattr(node, do)(self.fed(vals, feeds))
            case "enqueue_raw" | "enqueue_many_raw" as do:
                return getattr(node, do.removesuffix("_raw"))(raw(step["raw"]))
            case "dequeue" | "size" | "is_closed" as do:
                return getattr(node, do)()
            case "dequeue_many" | "dequeue_up_to" as do:
                return getattr(node, do)(self.fed(np.int32(step["n"]), feeds))
            case "close":
                return node.close(cancel_pending_enqueues=step.get("cancel", False))
            case "attrs":
                return queue
            case "from_list":
                chosen = [getattr(self.queues.get(name, name), "node", name) for name in step["queues"]]
                made = tf.QueueBase.from_list(decode(step["index"]), chosen)
                self.queues[step["as"]] = Made(made, self.session)
                return None
        raise AssertionError(f"unknown step {step}")

    def fed(self, vals, feeds):
        """Convert typed arrays to placeholders, whose shapes are only known when they are fed."""
        if isinstance(vals, dict):
            return {key: self.fed(value, feeds) for key, value in vals.items()}
        if isinstance(vals, list):
            return [self.fed(value, feeds) for value in vals]
        node = tf.placeholder(vals.dtype)  # of any shape
        feeds[node] = vals
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
