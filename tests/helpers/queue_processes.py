"""Other processes for tests of queues. The test controls the order of their calls."""

import contextlib
import multiprocessing
import os
import signal
import threading

import cloudpickle

DEADLOCK_S = 60


class Other:
    """A process that calls functions for the test.

    Args:
        method: Start method of `multiprocessing`. A fork inherits the arguments, otherwise they are pickled.
        given: First arguments of every call.
    """

    def __init__(self, *given, method="fork"):
        context = multiprocessing.get_context(method)
        self._pipe, theirs = context.Pipe()
        packed = given if method == "fork" else cloudpickle.dumps(given)
        self.process = context.Process(target=_obey, args=(theirs, packed), daemon=True)
        self.process.start()
        theirs.close()

    @property
    def pid(self):
        return self.process.pid

    def begin(self, call, *args):
        """Start a call. `end` waits for its result."""
        self._pipe.send_bytes(cloudpickle.dumps((call, args)))

    def end(self):
        """Return the result of the call that `begin` started, or raise its exception."""
        assert self._pipe.poll(DEADLOCK_S), "a call in another process hangs"
        outcome, error = cloudpickle.loads(self._pipe.recv_bytes())
        if error is not None:
            raise error
        return outcome

    def has_ended(self):
        """Return whether the call is over."""
        return self._pipe.poll()

    def ask(self, call, *args):
        """Call a function in the process, and return the result."""
        self.begin(call, *args)
        return self.end()

    def kill(self):
        """Kill the process with SIGKILL, and wait until it has exited."""
        os.kill(self.pid, signal.SIGKILL)
        self.process.join(DEADLOCK_S)

    def close(self):
        """End the process."""
        with contextlib.suppress(OSError):
            self._pipe.send_bytes(b"")
        self._pipe.close()
        self.process.join(DEADLOCK_S)
        if self.process.exitcode is None:
            self.kill()
        self.process.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _obey(pipe, packed):
    given = packed if isinstance(packed, tuple) else cloudpickle.loads(packed)
    while data := pipe.recv_bytes():
        call, args = cloudpickle.loads(data)
        try:
            answer = call(*given, *args), None
        except Exception as error:
            answer = None, error
        pipe.send_bytes(cloudpickle.dumps(answer))


@contextlib.contextmanager
def shared(queue, count=1):
    """Yield a queue, and ``count`` other processes that use it until the block ends."""
    with contextlib.ExitStack() as stack:
        yield queue, *[stack.enter_context(Other(queue)) for _ in range(count)]


def in_line(queue):
    """Wait until one call is blocked in the queue, in any process."""
    done = threading.Event()
    while queue.queue_ref.num_waiting != 1:
        queue.size()  # processes messages from other processes
        assert not done.wait(0.001)
