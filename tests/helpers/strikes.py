"""A signal at the n-th place at which Python looks for one: what a handler raises may strike there, and nowhere else."""

import dis
import os
import signal
import sys


class Struck(BaseException):
    """What the handler raises, as KeyboardInterrupt is raised."""


# After these Python looks whether a signal has come; a handler runs there, and nowhere else.
_CHECKED = {number for name, number in dis.opmap.items() if name.startswith(("CALL", "JUMP_BACKWARD", "RESUME"))}


class Strike:
    """Sends this process a signal at the n-th place in the engine where Python looks for one, in this thread.

    It may strike in a finalizer, too: there Python ignores what a handler raises, and reports it. The report is dropped
    here; what the finalizer has not done by then is what the test is to see.
    """

    def __init__(self, after):
        self.left, self._pid = after, os.getpid()
        self._latest = {}  # opcode, by frame

    def __enter__(self):
        self._handler = signal.signal(signal.SIGUSR1, self._raise)
        self._report, sys.unraisablehook = sys.unraisablehook, self._report_others
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_):
        sys.settrace(None)
        signal.signal(signal.SIGUSR1, self._handler)
        sys.unraisablehook = self._report

    def _report_others(self, ignored):
        if ignored.exc_type is not Struck:
            self._report(ignored)

    @staticmethod
    def _raise(*_):
        raise Struck

    def _enter(self, frame, _event, _argument):
        self._latest[id(frame.f_back)] = None  # the return from Python code is no place to look
        folder, name = os.path.split(frame.f_code.co_filename)
        if "/mpqueue/" not in f"{folder}/" or name == "interrupts.py":
            return None
        frame.f_trace_opcodes = True
        self._latest[id(frame)] = None
        return self._step

    def _step(self, frame, event, _argument):
        if event == "opcode":
            latest = self._latest[id(frame)]
            self._latest[id(frame)] = frame.f_code.co_code[frame.f_lasti]
            if latest in _CHECKED:
                self._count_down()
        return self._step

    def _count_down(self):
        self.left -= 1
        if os.getpid() != self._pid:  # a forked child
            sys.settrace(None)
        elif self.left == 0:
            sys.settrace(None)
            signal.raise_signal(signal.SIGUSR1)
