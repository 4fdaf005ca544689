"""The server of a program, in a fork that can be killed, and its consumers."""

import contextlib
import gc
import multiprocessing
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor

import psutil
from helpers.waits import comes_true
from model.program import interrupted, outcome

import mpqueue
from mpqueue.errors import ServiceError

_DEADLOCK_S = 60
_running = []  # the servers of this program


class Served:
    """A server. With ``journal``, it can be killed and continues."""

    def __init__(self, source, *, journal=False, **options):
        self._folder, self._source, self._options = tempfile.mkdtemp(prefix="mpqueue-model-"), source, options
        if journal:
            options["journal"] = f"{self._folder}/journal"
        _running.append(self)
        self._start()

    def _start(self):
        self._pipe, pipe = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("fork").Process(target=self._serve, args=(pipe, self._pipe))
        self._process.start()
        pipe.close()
        self._call("wait", 0)

    def _serve(self, pipe, other_end):
        other_end.close()  # so that the server stops when the player exits
        try:
            server = mpqueue.Server(f"{self._folder}/s", self._source, **self._options).start()
        except Exception as error:
            pipe.send((error, None))
            return
        with server, contextlib.suppress(EOFError):
            while True:
                name, given = pipe.recv()
                try:
                    pipe.send((None, getattr(server, name)(*given)))
                except Exception as error:
                    pipe.send((error, None))

    def _call(self, name, *given):
        self._pipe.send((name, given))
        if not self._pipe.poll(_DEADLOCK_S):
            raise TimeoutError(f"the server does not answer {name}")
        error, found = self._pipe.recv()
        if error is not None:
            raise error
        return found

    def attach(self, rank=None):
        """Return a consumer."""
        return mpqueue.attach(f"{self._folder}/s", rank=rank, timeout=_DEADLOCK_S, reconnect=True)

    def statistics(self):
        return self._call("statistics")

    def crash(self, workers, back=None):
        """Kill the server, and start the next one. Return its error if a byte of the journal was changed before.

        After an error, the byte is restored, and a server started. ``back`` counts from the end of the journal.
        """
        self._end(self._process.kill)
        self._options["workers"] = workers
        if back is not None:
            self._change(back)
            with contextlib.suppress(ServiceError):
                return self._start()
            self._process.join()
            self._change(back)
        self._start()
        return None if back is None else "ServiceError"

    def _change(self, back):
        with open(self._options["journal"], "r+b") as file:
            at = file.seek(-1 - back, os.SEEK_END)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 255]))

    def stop(self):
        """Stop the server and remove its folder; idempotent."""
        if self in _running:
            _running.remove(self)
        self._end(self._pipe.close)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self, end):
        """End the server; all of its processes must end, too."""
        others = psutil.Process(self._process.pid).children(recursive=True) if self._process.is_alive() else []
        end()
        self._pipe.close()
        self._process.join(_DEADLOCK_S)
        if not comes_true(lambda: not any(map(_is_running, others)), _DEADLOCK_S):
            raise TimeoutError(f"processes of the server still run: {others}")


def stop_servers():
    """Stop all servers of this program."""
    for each in list(_running):
        each.stop()


def _is_running(process):
    with contextlib.suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def at_once(function, each):
    """Call a function for each in a separate thread; return the results, or the errors."""
    with ThreadPoolExecutor(len(each)) as threads:
        return list(threads.map(lambda one: outcome(function, one), each))


def interrupted_at_once(consumers, after_s):
    """Interrupt the first consumer, while the others take a batch in separate threads: it may wait for them."""
    with ThreadPoolExecutor(len(consumers)) as threads:
        others = [threads.submit(outcome, next, each) for each in consumers[1:]]
        return interrupted(consumers[:1], after_s) + [each.result() for each in others]


def entered(consumers):
    """Begin a loop over each consumer. After a crash of the server, some wait for the others."""
    with ThreadPoolExecutor(len(consumers)) as threads:
        return list(threads.map(iter, consumers))


def lose(consumers, which):
    """Drop a consumer, which counts as a crash."""
    consumers[which] = None
    gc.collect()
