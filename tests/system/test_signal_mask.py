"""Signals that arrive while they are blocked, in a process where `faulthandler` has installed its small stack."""

import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys
from mpqueue.system.signals.masks import set_signal_mask

numbers = [signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGXCPU, signal.SIGRTMIN]
seen = []

def handle(number, _):
    seen.append(number)
    if sys.argv[1] == "raises" and len(seen) in (1, 3):
        raise TimeoutError

for number in numbers:
    signal.signal(number, handle)
signal.pthread_sigmask(signal.SIG_BLOCK, {*numbers, signal.SIGTERM})
for number in numbers:
    os.kill(os.getpid(), number)
try:
    set_signal_mask({signal.SIGTERM})
except TimeoutError:
    pass
assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGTERM}
print(sorted(seen) == sorted(numbers))
"""


@pytest.mark.parametrize("handler", ["returns", "raises"])
def test_each_pending_signal_is_handled(handler):
    command = [sys.executable, "-X", "faulthandler", "-c", SCRIPT, handler]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "True\n", "")
