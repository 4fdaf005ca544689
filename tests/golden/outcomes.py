"""What a call did, in the form of the case files: a value, an error, or nothing yet."""

import builtins
import threading
from contextlib import contextmanager

import mpqueue
from golden.values import assert_same
from mpqueue import errors

DEADLOCK_S = 60
BLOCKED_S = 0.25  # a step that took no longer is called blocked by the format


class Background:
    """A call in a thread of its own, whose outcome is fetched later."""

    def __init__(self, call, *args):
        self.value = self.error = None
        self.thread = threading.Thread(target=self._run, args=(call, args), daemon=True)
        self.thread.start()

    def _run(self, call, args):
        try:
            self.value = call(*args)
        except BaseException as error:
            self.error = error

    def is_blocked(self, seconds=BLOCKED_S):
        self.thread.join(seconds)
        return self.thread.is_alive()

    def finish(self):
        self.thread.join(DEADLOCK_S)
        assert not self.thread.is_alive(), "the call never ended"
        if self.error is not None:
            raise self.error
        return self.value


def ended(*threads):
    """Wait for threads; return whether all have ended."""
    for thread in threads:
        thread.join(DEADLOCK_S)
    return not any(thread.is_alive() for thread in threads)


def error_class(name):
    return getattr(errors, name, None) or getattr(builtins, name)


def is_error(expected):
    return isinstance(expected, dict) and "error" in expected


def assert_error(error, expected, where):
    """The error is of the class that the case names; an OpError exactly, since its subclasses have other codes."""
    assert is_error(expected), f"{where}: {error!r}, expected {expected!r}"
    names = {expected["error"], (expected.get("when_shapes_are_known") or expected)["error"]}
    fits = type(error).__name__ in names or any(
        isinstance(error, getattr(builtins, name, ())) for name in names if hasattr(builtins, name)
    )
    assert fits, f"{where}: {error!r}, expected {expected!r}"
    missing = [word for word in expected.get("mentions", ()) if word not in str(error)]
    assert not missing, f"{where}: {error} mentions no {missing}"


def assert_outcome(call, expected, where, *args):
    """Call, and compare with an expectation: an error, "ok" (any value), or an encoded value."""
    try:
        got = call(*args)
    except Exception as error:
        if not is_error(expected):
            raise AssertionError(f"{where}: expected {expected!r}") from error
        assert_error(error, expected, where)
        return
    assert not is_error(expected), f"{where}: {got!r}, expected {expected!r}"
    if expected != "ok":
        assert_same(got, expected, where=where)


@contextmanager
def run_by_queue_runners(expected):
    """Run the collected queue runners in a session, with a coordinator whose join is compared at the end."""
    runners = mpqueue.get_queue_runners()
    assert [len(runner.enqueue_ops) for runner in runners] == expected["enqueue_ops"]
    with mpqueue.Session() as session:
        coord = mpqueue.Coordinator()
        mpqueue.start_queue_runners(session, coord)
        try:
            yield coord
        finally:
            coord.request_stop()
            mpqueue.reset_default_graph()
        assert_outcome(lambda: coord.join(stop_grace_period_secs=DEADLOCK_S), expected["join"], "join")
