"""A consumer in a separate process that executes the commands of a test one at a time."""

import contextlib
import json
import os
import select
import signal
from collections import deque

import numpy as np

from helpers.waits import until
from mpqueue.service.serving.journal import read_journal

MODULES = ("numpy", "mpqueue.service.consuming.consumer")  # imported by the consumer's process
_SCRIPT = """
import json, os, signal, sys
import mpqueue
consumer, batches, batch, kept = mpqueue.attach(sys.argv[1], **json.loads(sys.argv[2])), None, None, []
def loop():
    global batches
    batches = iter(consumer)
    return "looping"
def take():
    global batch
    if batches is None:
        loop()
    batch = next(batches, None)
    return None if batch is None else batch.tolist()
def take_all():
    global batches
    if batches is None:
        loop()
    taken, batches = [each.tolist() for each in batches], None
    return taken
def keep():
    kept.append(batch)
    return [each.tolist() for each in kept]
def drop():
    global batch
    kept.clear()
    batch = None
def close():
    consumer.close()
    return "closed"
def fork():
    if child := os.fork():
        return child
    os.close(0)
    sys.stdin = None
    while True:
        signal.pause()  # until killed; the parent may have ended before this line
def statistics():
    found = consumer.statistics()
    return {"slots_in_use": found.slots_in_use, "copies": found.copies, "skipped": found.skipped}
print(json.dumps({"is": consumer.epoch}), flush=True)
for line in sys.stdin:
    try:
        answer = {"is": globals()[line.strip()]()}
    except Exception as error:
        answer = {"error": type(error).__name__, "text": str(error)}
    print(json.dumps(answer), flush=True)
"""


class Raised(Exception):
    """An exception in the consumer: the name of its type, and its message."""


class Puppet:
    """A consumer of a server.

    Args:
        interpreter: The `helpers.forked_programs.Interpreter` that forks the process.
        name: Name of the server.
        options: Options of `mpqueue.attach`.

    Attributes:
        taken: All batches that its commands have returned.
    """

    def __init__(self, interpreter, name, **options):
        options = {"timeout": 30.0} | options
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        descriptors = {0: theirs_in, 1: theirs_out, 2: 2}
        arguments = ["-c", name, json.dumps(options)]
        self.process = interpreter.start(_SCRIPT, arguments, descriptors, environ=os.environ)
        os.close(theirs_in)
        os.close(theirs_out)
        self._commands, self._answers = open(ours_in, "w"), open(ours_out)
        self.is_attached, self._unanswered = False, deque()
        self.taken = []

    def attached(self):
        """Wait until the consumer is attached; return it."""
        if not self.is_attached:
            self.epoch = self._received()
            self.is_attached = True
        return self

    def tell(self, command):
        """Send a command without waiting for its result."""
        self.attached()
        self._commands.write(f"{command}\n")
        self._commands.flush()
        self._unanswered.append(command)

    def answer(self):
        """Return the result of the earliest command without an answer."""
        command, result = self._unanswered.popleft(), self._received()
        self.taken += {"take": [] if result is None else [result], "take_all": result}.get(command, [])
        return result

    def _received(self):
        line = self._answers.readline()
        if not line:
            raise EOFError(f"the consumer exited with {self.process.wait()}")
        found = json.loads(line)
        if "error" in found:
            raise Raised(found["error"], found["text"])
        return found["is"]

    def has_answered(self, *, within):
        """Return whether the earliest command without an answer gets one in this number of seconds."""
        return bool(select.select([self._answers], [], [], within)[0])

    def do(self, command):
        """Send a command, and return its result."""
        self.tell(command)
        return self.answer()

    def take(self, count):
        """Return its next batches. The first one begins its loop."""
        return [self.do("take") for _ in range(count)]

    def kill(self, number=signal.SIGKILL):
        """Send a signal, and wait for the process to end."""
        self.process.send_signal(number)
        self.process.wait()

    def end(self):
        """End the process in any state."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGCONT)
        with contextlib.suppress(OSError):
            self._commands.close()
        self.process.kill()
        self.process.wait()
        self._answers.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


class Indices:
    """A source of batches that contain their index: (index, index, ...)."""

    def __init__(self, length=8, width=2):
        self.length, self.width = length, width

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return np.full(self.width, index)


def all_do(consumers, command):
    """Return the results of a command that consumers execute at the same time.

    A restarted server waits until all consumers have attached.
    """
    for consumer in consumers:
        consumer.tell(command)
    return [consumer.answer() for consumer in consumers]


def firsts(batches):
    """Return the first number of each batch."""
    return [batch[0] for batch in batches]


def await_back(puppet, journal):
    """Wait until the journal contains this consumer with a positive number, which means that it is attached."""

    def is_back():
        there = read_journal(str(journal)).survivors.items()
        return any(number > 0 and it.pid == puppet.process.pid for number, it in there)

    until(is_back, "the consumer has not reattached")
