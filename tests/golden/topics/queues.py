"""Queue scripts: every step runs in a thread of its own, inside one session, and may block.

What blocked is known without a clock: after each step all threads have either ended or wait in a queue, and the
queues count who waits in them.
"""

import warnings
from collections import Counter

import numpy as np

import mpqueue
from golden.outcomes import DEADLOCK_S, Background, error_class, is_error
from golden.values import assert_same, decode, encode


def run(case, folder):
    mpqueue.reset_default_graph()
    script = Script(case.get("random", False))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        script.run(case)
    # Components too many are dropped as in TensorFlow, but not without a word.
    assert [warning.category for warning in caught] == [RuntimeWarning] * script.num_too_long


class Script:
    def __init__(self, is_random):
        self.is_random = is_random
        self.session = mpqueue.Session()
        self.queues, self.calls, self.running = {}, {}, []
        self.num_too_long = 0
        self.waiting_examples = Counter()  # enqueued and not dequeued, where the order is random

    def run(self, case):
        try:
            if self.make_queues(case["queues"], case.get("create")):
                for index, step in enumerate(case["steps"]):
                    self.play(step, f"step {index} {step}")
        finally:
            self.end()

    def make_queues(self, documents, expected_error):
        """False if the case ends here, because making a queue was to fail and did."""
        for name, document in documents.items():
            try:
                args = dict(document["args"])
                self.queues[name] = self.made_queue(document["class"], args.pop("capacity"), **args)
            except Exception as error:
                if expected_error is not None:
                    assert_error(error, expected_error, document)
                    return False
                self.queues[name] = Unusable(error)
        assert expected_error is None, f"expected {expected_error}"
        return True

    def made_queue(self, name, *args, **options):
        return getattr(mpqueue, name)(*args, **options)

    def end(self):
        self.session.close()
        for call in self.running:
            call.thread.join(DEADLOCK_S)
            assert not call.thread.is_alive(), "a cancelled call did not end"

    def settle(self):
        """Wait until every call has ended or is blocked in a queue."""
        refs = {id(queue.queue_ref): queue.queue_ref for queue in self.queues.values()}
        for _ in range(DEADLOCK_S * 1000):
            self.running = [call for call in self.running if call.thread.is_alive()]
            waiting = sum(getattr(ref, "num_waiting", 0) for ref in refs.values())
            if len(self.running) == waiting:
                return
            self.running[0].thread.join(0.001)
        raise AssertionError("a call neither ended nor waits in a queue")

    def play(self, step, where):
        match step["do"]:
            case "start":
                self.calls[step["id"]] = self.check(self.call(step["step"]), step["expect"], step["step"], where)
            case "finish":
                call, inner = self.calls[step["id"]]
                if step["expect"] != {"blocked": True}:
                    call.thread.join(DEADLOCK_S)  # one that was just freed counts as waiting until it runs again
                self.settle()
                self.check(call, step["expect"], inner, where)
            case "still_blocked":
                self.settle()
                assert self.calls[step["id"]][0].thread.is_alive() == step["expect"]["blocked"], where
            case "close_session":
                self.session.close()
                self.settle()
            case _:
                self.check(self.call(step), step["expect"], step, where)

    def call(self, step):
        call = Background(self.session.run, lambda: self.body(step))
        self.running.append(call)
        self.settle()
        return call

    def body(self, step):
        queue = self.queues[step.get("on", "q")]
        match step["do"]:
            case "enqueue" | "enqueue_many" as do:
                vals = decode(step["vals"])
                if self.is_random and not is_error(step.get("expect")):
                    self.waiting_examples.update(examples(arrays(vals), do == "enqueue_many", queue.names))
                self.num_too_long += isinstance(vals, list) and len(vals) > len(queue.dtypes)
                return self.enqueue(queue, do, vals)
            case "enqueue_raw" | "enqueue_many_raw" as do:
                vals = raw(step["raw"])
                self.num_too_long += isinstance(vals, list) and len(vals) > len(queue.dtypes)
                return getattr(queue, do.removesuffix("_raw"))(vals)
            case "dequeue" | "size" | "is_closed" as do:
                return getattr(queue, do)()
            case "dequeue_many" | "dequeue_up_to" as do:
                return self.dequeue(queue, do, step["n"])
            case "close":
                return queue.close(cancel_pending_enqueues=step.get("cancel", False))
            case "attrs":
                return queue
            case "from_list":
                chosen = [self.queues.get(name, name) for name in step["queues"]]
                self.queues[step["as"]] = self.selected(decode(step["index"]), chosen)
                return None
        raise AssertionError(f"unknown step {step}")

    def enqueue(self, queue, do, vals):
        """Enqueue typed arrays, as a source does that knows its dtypes: they are never cast."""
        if isinstance(vals, dict):
            names, typed = list(vals), list(vals.values())
        else:
            names, typed = None, vals if isinstance(vals, list) else [vals]
        source = mpqueue.Source(lambda: vals, dtypes=[array.dtype for array in typed], names=names)
        return getattr(queue, f"{do}_op")(source)()

    def dequeue(self, queue, do, count):
        return getattr(queue, do)(count)

    def selected(self, index, queues):
        return mpqueue.QueueBase.from_list(index, queues)

    def check(self, call, expected, step, where):
        if expected == {"blocked": True}:
            assert call.thread.is_alive(), f"{where}: ended with {call.error or call.value!r}"
        else:
            assert not call.thread.is_alive(), f"{where}: blocked"
            self.check_outcome(call, expected, step, where)
        return call, step

    def check_outcome(self, call, expected, step, where):
        if is_error(expected):
            return assert_error(call.error, expected, where)
        if call.error is not None:
            raise call.error
        if expected == "ok":
            assert call.value is None, where
        elif step["do"] == "attrs":
            assert attributes(call.value) == expected, where
        elif self.is_random and step["do"].startswith("dequeue"):
            self.check_random(arrays(call.value), expected, step["do"] != "dequeue", where)
        else:
            assert_same(arrays(call.value), expected, where=where)

    def check_random(self, value, expected, many, where):
        """Dtypes and batch shapes are as expected, and every example was enqueued and not dequeued before."""
        unlike = {"data"} if many else {"data", "shape"}  # another element of a queue without shapes has its own
        assert skeleton(encode(value), unlike) == skeleton(expected, unlike), where
        got = Counter(examples(value, many))
        assert got <= self.waiting_examples, f"{where}: got {got}, waiting were {self.waiting_examples}"
        self.waiting_examples -= got


class Unusable:
    """A queue that could not be made: TensorFlow tells at its first use."""

    names = queue_ref = None

    def __init__(self, error):
        self.error = error

    def __getattr__(self, name):
        raise self.error


def raw(document):
    """Python values as they are, with encoded arrays among them."""
    if isinstance(document, list):
        return [raw(item) for item in document]
    return decode(document)


def arrays(value):
    """Scalars as 0-d arrays, which is how the cases write them."""
    if isinstance(value, dict):
        return {key: arrays(item) for key, item in value.items()}
    if isinstance(value, list):
        return [arrays(item) for item in value]
    return np.asarray(value, dtype=object) if isinstance(value, bytes) else np.asarray(value)


def attributes(queue):
    shapes = [None if shape is None else list(shape) for shape in queue.shapes]
    return {"dtypes": [str(dtype) for dtype in queue.dtypes], "names": queue.names, "shapes": shapes}


def examples(value, many, names=None):
    """The elements in a value, in a form that can be counted."""
    if isinstance(value, dict):
        value = [value[name] for name in names or value]
    components = value if isinstance(value, list) else [value]
    if not many:
        return [str([encode(component) for component in components])]
    return [str([encode(arrays(row)) for row in rows]) for rows in zip(*components, strict=False)]


def skeleton(document, without):
    """An encoded value without some of its entries."""
    if isinstance(document, dict):
        return {key: skeleton(item, without) for key, item in document.items() if key not in without}
    return [skeleton(item, without) for item in document] if isinstance(document, list) else document


def assert_error(error, expected, where):
    assert isinstance(error, error_class(expected["error"])), f"{where}: got {error!r}, expected {expected}"
    for word in expected.get("mentions", []):
        assert word in str(error), f"{where}: {error} does not mention {word}"
