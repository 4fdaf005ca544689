"""Coordinator scripts: threads of a few kinds of behaviour, stopped and joined."""

import sys
import threading
import time

from helpers.waits import until

import mpqueue
from golden.outcomes import DEADLOCK_S, Background, ended, error_class
from mpqueue import errors

DIFFERENCES = {  # the reason, and the outcomes of steps
    "s009": (
        "an exception that was never raised is recorded like any other, where TensorFlow trips over a bug of its own",
        {1: "ok", 2: True, 3: {"error": "RuntimeError", "text": "boom"}},
    ),
}
TOLERANCE_S = 0.5  # what the format allows
BUSY_S = 30.0  # by which a step may be late on a busy machine


def run(case, folder):
    script = Script()
    _, differences = DIFFERENCES.get(case["id"].partition("/")[2], ("", {}))
    try:
        for index, step in enumerate(case["steps"]):
            script.do(step, differences.get(index, step["expect"]), f"step {index} ({step['do']})")
    finally:
        script.end()


def make_exception(step):
    kind = error_class(step["class"])
    text = step.get("text", "boom")
    return kind(None, None, text) if issubclass(kind, errors.OpError) else kind(text)


class Script:
    """One coordinator and the threads of a case."""

    def __init__(self):
        self.coord = None
        self.threads = {}
        self.released = threading.Event()
        self.joining = None

    def do(self, step, expected, where):
        before = time.monotonic()
        try:
            got = getattr(self, f"do_{step['do']}")(step)
            got = "ok" if got is None else got
        except BaseException as error:
            got = _describe(error, expected)
        took = time.monotonic() - before
        assert got == expected, f"{where}: {got!r}, expected {expected!r}"
        if "took_about" in step:
            assert -TOLERANCE_S <= took - step["took_about"] <= BUSY_S, f"{where}: took {took:.2f} s"

    def end(self):
        """Let every thread of the case end, and see that it does."""
        self.released.set()
        if self.coord is not None:
            self.coord.clear_stop()
            self.coord.request_stop()
        assert ended(*self.threads.values())

    def do_new(self, step):
        types = step.get("clean_stop_exception_types")
        given = () if types is None else (tuple(error_class(name) for name in types),)
        self.coord = mpqueue.Coordinator(*given)

    def do_thread(self, step):
        body = getattr(self, f"body_{step['body']}")
        thread = threading.Thread(target=body, args=(step,), name=step["id"], daemon=True)
        self.threads[step["id"]] = thread
        if step.get("register"):
            self.coord.register_thread(thread)
        thread.start()

    def body_until_stop(self, step):
        until(self.coord.should_stop, "the coordinator does not stop")

    def body_wait_for_stop(self, step):
        self.coord.wait_for_stop()

    def body_ends_at_once(self, step):
        pass

    def body_ignores_stop(self, step):
        self.released.wait(DEADLOCK_S)

    def body_late(self, step):
        self.coord.wait_for_stop()
        time.sleep(step["secs"])

    def body_asks_to_stop(self, step):
        time.sleep(step.get("secs", 0))
        self.coord.request_stop()

    def body_raises_inside_stop_on_exception(self, step):
        time.sleep(step.get("secs", 0))
        with self.coord.stop_on_exception():
            raise make_exception(step)

    def body_reports_exception(self, step):
        try:
            raise make_exception(step)
        except BaseException as error:
            self.coord.request_stop(error)

    def do_request_stop(self, step):
        form = step.get("form", "none")
        if form == "none":
            self.coord.request_stop()
        elif form == "new_exception":
            self.coord.request_stop(make_exception(step))
        else:
            try:
                raise make_exception(step)
            except BaseException as error:
                self.coord.request_stop(error if form == "caught" else sys.exc_info())

    def do_should_stop(self, step):
        return self.coord.should_stop()

    def do_joined(self, step):
        return self.coord.joined

    def do_wait_for_stop(self, step):
        return self.coord.wait_for_stop(step.get("timeout"))

    def do_clear_stop(self, step):
        self.coord.clear_stop()

    def do_raise_requested_exception(self, step):
        self.coord.raise_requested_exception()

    def do_stop_on_exception(self, step):
        with self.coord.stop_on_exception():
            if "class" in step:
                raise make_exception(step)

    def do_register_thread(self, step):
        self.coord.register_thread(self.threads[step["id"]])

    def do_alive(self, step):
        return self.threads[step["id"]].is_alive()

    def do_release(self, step):
        self.released.set()

    def do_join(self, step):
        if not step.get("blocks"):
            return self._join(step)
        self.joining = Background(self._join, step)
        return {"blocked": True} if self.joining.is_blocked(step["took_about"]) else "ok"

    def do_finish_join(self, step):
        self.joining.finish()

    def _join(self, step):
        names = step.get("threads")
        options = {"stop_grace_period_secs": step["grace"]} if "grace" in step else {}
        if "ignore_live_threads" in step:
            options["ignore_live_threads"] = step["ignore_live_threads"]
        self.coord.join(None if names is None else [self.threads[name] for name in names], **options)


def _describe(error, expected):
    """An exception in the form of the expectation, which may ask for its text or for the names of threads in it."""
    if not isinstance(expected, dict) or "error" not in expected:
        raise error
    described = {"error": type(error).__name__}
    if "text" in expected:
        described["text"] = str(error)
    if "names_threads" in expected:
        described["names_threads"] = [name for name in expected["names_threads"] if name in str(error)]
    return described
