"""QueueRunner scripts: sources with a fixed end, run by a runner, looked at from outside."""

import itertools
import threading
import time

import numpy as np
from helpers import waits

import mpqueue
from golden.outcomes import DEADLOCK_S, ended, error_class
from mpqueue import errors, train
from mpqueue.train import QueueRunner

SETTLED_S = 0.05  # what only passed through the expected state is told by going on


def run(case, folder):
    mpqueue.reset_default_graph()
    if "runner" not in case:
        run_without_steps(case)
    else:
        run_script(case, Script)


def run_script(case, make_script):
    """Play the steps of a case, or compare the error of the constructor."""
    if "create" in case:
        assert outcome(lambda: make_script(case["runner"])) == case["create"]
        return
    hook = threading.excepthook
    threading.excepthook = lambda args: None  # a runner without a coordinator raises in its threads on purpose
    try:
        run_steps(make_script(case["runner"]), case["steps"])
    finally:
        threading.excepthook = hook


def run_steps(script, steps):
    try:
        for index, step in enumerate(steps):
            script.do(step, f"step {index} ({step['do']})")
    finally:
        script.end()


def outcome(call):
    """What a call gives, or its error in the form of the cases."""
    try:
        return call()
    except Exception as error:
        return {"error": type(error).__name__}


def settled(look, expected):
    """What ``look()`` gives as soon as it is what is expected, and stays so; after a long while, its last value."""
    return waits.settled(look, lambda found: found == expected, SETTLED_S)


class Values:
    """The callable of a source: gives its values one by one, then raises at each further call, or goes on for ever."""

    def __init__(self, spec):
        self._values = list(spec["values"])
        self._then = spec["then"]
        self._pause = spec.get("pause", 0)
        self._lock = threading.Lock()

    def __call__(self):
        time.sleep(self._pause)
        with self._lock:
            if self._values:
                return np.int32(self._values.pop(0))
        if self._then == "forever":
            return np.int32(-99)
        raise error_class(self._then)(None, None, "the end")


class Gated:
    """Holds every thread of a runner until it was looked at: one that is done soon would else be gone by then."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def run(self, *args):
        assert self.gate.wait(DEADLOCK_S)
        return super().run(*args)

    def make_callable(self, *args):
        assert self.gate.wait(DEADLOCK_S)
        return super().make_callable(*args)


class GatedSession(Gated, mpqueue.Session):
    """A session of the toolbox."""


class Script:
    """One queue, its runner, and what the steps made of them."""

    session_class, functions = GatedSession, train

    def __init__(self, spec):
        self.own_op_runs, self.groups = {"close": 0, "cancel": 0}, {}
        self.session = self.session_class()
        queue, ops, own_ops = self.make(spec)
        self.options = own_ops if spec.get("own_ops") else {}
        if "closed_types" in spec:
            self.options["queue_closed_exception_types"] = tuple(error_class(name) for name in spec["closed_types"])
        self.runner = self.functions.QueueRunner(queue, ops * spec.get("same_op_times", 1), **self.options)
        self.coord = self.functions.Coordinator() if spec.get("coord", True) else None

    def make(self, spec):
        """Return the queue, its ops, and own ops that close it."""
        self.queue = mpqueue.FIFOQueue(spec["capacity"], np.int32, shapes=[()], name="runq")
        sources = [mpqueue.Source(Values(source), np.int32, ()) for source in spec["sources"]]
        ops = [self.queue.enqueue_op(source) for source in sources]
        return self.queue, ops, {"close_op": self.own_close, "cancel_op": self.own_cancel}

    def own_close(self):
        self.own_op_runs["close"] += 1
        self.queue.close()

    def own_cancel(self):
        self.own_op_runs["cancel"] += 1
        self.queue.close(cancel_pending_enqueues=True)

    def do(self, step, where):
        got = outcome(lambda: getattr(self, f"do_{step['do']}")(step))
        got = "ok" if got is None else got
        assert got == step["expect"], f"{where}: {got!r}, expected {step['expect']!r}"

    def end(self):
        """Stop everything, and see that it ends."""
        self.session.gate.set()
        if self.coord is not None:
            self.coord.clear_stop()
            self.coord.request_stop()
        self.session.close()
        threads = itertools.chain(*self.groups.values())
        assert ended(*(thread for thread in threads if thread.ident is not None))

    def do_create_threads(self, step):
        options = {name: step[name] for name in ("daemon", "start") if name in step}
        self.session.gate.clear()
        threads = self.groups[step["id"]] = self.runner.create_threads(self.session, self.coord, **options)
        alive = [thread.is_alive() for thread in threads]
        self.session.gate.set()
        return {
            "threads": len(threads),
            "daemon": [thread.daemon for thread in threads],
            "alive": alive,
            "name_of_queue_in_thread_names": all(self.queue.name in thread.name for thread in threads),
        }

    def do_start(self, step):
        for thread in self.groups[step["id"]]:
            thread.start()

    def do_wait_threads(self, step):
        group = self.groups[step["id"]]
        return settled(lambda: {"alive": sum(thread.is_alive() for thread in group)}, step["expect"])

    def do_sleep(self, step):
        time.sleep(step["secs"])

    def do_dequeue(self, step):
        return int(self.queue.dequeue(timeout=DEADLOCK_S))

    def do_dequeue_all(self, step):
        values, end = [], None
        while end is None:
            got = outcome(lambda: self.do_dequeue(step))
            if isinstance(got, dict):
                end = got
            else:
                values.append(got)
        found = {"values_sorted": sorted(values), "end": end}
        return found | {"values_in_order": values} if "values_in_order" in step["expect"] else found

    def do_size(self, step):
        return settled(lambda: int(self.queue.size()), step["expect"])

    def do_is_closed(self, step):
        return settled(self.queue.is_closed, step["expect"])

    def do_close_queue(self, step):
        self.queue.close(cancel_pending_enqueues=step.get("cancel", False))

    def do_should_stop(self, step):
        return settled(self.coord.should_stop, step["expect"])

    def do_request_stop(self, step):
        self.coord.request_stop()

    def do_join(self, step):
        self.coord.join(stop_grace_period_secs=DEADLOCK_S)

    def do_exceptions_raised(self, step):
        def names():
            return [type(error).__name__ for error in self.runner.exceptions_raised]

        return settled(names, step["expect"])

    def do_own_op_runs(self, step):
        return settled(lambda: dict(self.own_op_runs), step["expect"])

    def do_attrs(self, step):
        return {
            "name": self.runner.name,
            "enqueue_ops": len(self.runner.enqueue_ops),
            "queue_is_q": self.runner.queue is self.queue,
            "queue_closed_exception_types": [kind.__name__ for kind in self.runner.queue_closed_exception_types],
            "close_op_given": self.runner.close_op == self.options.get("close_op"),
            "cancel_op_given": self.runner.cancel_op == self.options.get("cancel_op"),
        }


def run_without_steps(case):
    """Constructors and protos, which the cases describe in words."""
    queue = mpqueue.FIFOQueue(10, np.int32, shapes=[()], name="q0")
    ops = [queue.enqueue_op(lambda: 1, name=name) for name in ("e0", "e1")]
    types = errors.OutOfRangeError, errors.CancelledError

    def made(types=None):
        return QueueRunner(queue, ops, queue_closed_exception_types=types)

    calls = {
        "s019": QueueRunner,
        "s020": lambda: QueueRunner(queue),
        "s021": lambda: QueueRunner(enqueue_ops=ops),
        "s022": lambda: QueueRunner(queue, ops, queue_runner_def=made().to_proto()),
        "s023": lambda: vars(made().to_proto()),
        "s024": lambda: vars(made(types).to_proto()),
        "s025": lambda: described(remade(made(types))),
        "s028": lambda: made(list(types)),
    }
    assert outcome(calls[case["id"].partition("/")[2]]) == case["expect"]


def remade(runner):
    """The names of the runner's ops exist as long as the runner."""
    return QueueRunner.from_proto(runner.to_proto())


def described(runner):
    return {
        "name": runner.name,
        "enqueue_ops": [op.name for op in runner.enqueue_ops],
        "close_op": runner.close_op.name,
        "cancel_op": runner.cancel_op.name,
        "types": [kind.__name__ for kind in runner.queue_closed_exception_types],
    }
