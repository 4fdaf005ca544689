"""Plays the steps of a Keras case on an enqueuer, and compares the outcome of each.

Each read has a thread of its own, so that one that blocks can be left to a later `finish`; a time limit is only ever for
deadlocks, or for what must not happen.
"""

import collections.abc
import contextlib
import json
import os
import threading
import time

import psutil
import pytest
from helpers.waits import settled

import mpqueue
from golden import enqueuer_sources
from golden.values import encode

DEADLOCK_S = 60.0  # what has not happened by then never will
BLOCKED_S = 0.25  # the cases call a read blocked that took longer than this
# Allowed beside the seconds that a case names. Amid fifty runnable threads on two CPUs a stop of three processes took
# 0.8 s; one that waits for what it should not waits for good.
SLACK_S = 5.0
_OPTIONS_OF_START = ("workers", "max_queue_size")


class Read:
    """One read of `n` items in a thread of its own."""

    def __init__(self, generator, n: int):
        self._generator, self._n = generator, n
        self._values: list = []
        self._ending: dict = {}
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        try:
            for _ in range(self._n):
                self._values.append(encode(next(self._generator)))
        except StopIteration:
            self._ending = {"end": "StopIteration"}
        except Exception as error:
            self._ending = failure(error)

    def outcome(self, limit: float) -> dict:
        """What came of it; ``{"blocked": True}`` if it is not over within `limit` seconds."""
        self.thread.join(limit)
        return {"blocked": True} if self.thread.is_alive() else {"values": list(self._values)} | self._ending


def failure(error: BaseException) -> dict:
    """An exception in the form of the cases; ``cause_text`` is all that it and its causes say."""
    texts = []
    link: BaseException | None = error
    while link is not None:
        texts.append(str(link))
        link = link.__cause__ or link.__context__
    return {"error": type(error).__name__, "cause_text": "\n".join(texts)}


def attempt(function, *args, **kwargs):
    """The result of a call, or its exception, in the form of the cases."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return failure(error)


def matches(outcome, expected) -> bool:
    """Whether an outcome is the expected one; of an error's text, only what the source said counts."""
    if isinstance(outcome, dict) and isinstance(expected, dict) and "cause_text" in outcome:
        said = expected.get("cause_text") or ""
        rest = {key: value for key, value in expected.items() if key != "cause_text"}
        kept = {key: outcome.get(key) for key in rest}
        return "error" in rest and _text(kept) == _text(rest) and said in outcome["cause_text"]
    return _text(outcome) == _text(expected)


def _text(value) -> str:
    """As JSON, where 1, 1.0 and true are three things."""
    return json.dumps(value, sort_keys=True)


def _is_worker(process: psutil.Process) -> bool:
    """Workers are children of a fork server, or forks of this process; a fork server without any may stay a while."""
    try:
        return process.ppid() != os.getpid() or process.cmdline() == psutil.Process().cmdline()
    except psutil.NoSuchProcess:
        return False


class Play:
    """One case on its way.

    Args:
        case: The case.
        source_class: The class of its sequence.
        differences: By the number of a step: the outcomes of mpqueue, if they differ on purpose.
    """

    def __init__(self, case: dict, source_class, differences: dict):
        self.case, self.setup, self._differences = case, case["setup"], differences
        self._reads: dict[str, Read] = {}
        self._generators: dict = {}
        self._threads_before = set(threading.enumerate())
        arguments = dict(self.setup.get("args", {}))
        self._at_start = {name: arguments.pop(name) for name in _OPTIONS_OF_START if name in arguments}
        # A live generator cannot be sent to a process.
        self._forks = "generator" in self.setup and arguments.get("use_multiprocessing", False)
        if "generator" in self.setup:
            self.source = enqueuer_sources.generator(self.setup["generator"])
        else:
            self.source = source_class(self.setup["sequence"])
        if not self.setup.get("no_enqueuer"):
            self.enqueuer = getattr(mpqueue, self.setup.get("class", "OrderedEnqueuer"))(self.source, **arguments)

    def run(self) -> None:
        """Play all steps; an AssertionError names the one that went wrong."""
        try:
            for index, step in enumerate(self.case["steps"]):
                expected = self._differences.get(index, [step["expect"]])
                began = time.monotonic()
                outcome = getattr(self, f"_{step['do']}")(step, expected)
                took = time.monotonic() - began
                where = f"step {index}, {step}"
                assert any(self._fits(outcome, one) for one in expected), f"{where}: {outcome}, expected {expected}"
                assert took <= step.get("took_about", DEADLOCK_S) + SLACK_S, f"{where}: took {took:.2f} s"
        finally:
            self._clean_up()

    def _fits(self, outcome, expected) -> bool:
        if self.case.get("random") and "values" in expected:  # whole epochs, whose values come in any order
            outcome, expected = ({**one, "values": sorted(one["values"])} for one in (outcome, expected))
        return matches(outcome, expected)

    # The steps: each takes the step and what is expected of it, and returns the outcome.

    def _start(self, step: dict, expected) -> object:
        given = self._at_start | {key: step[key] for key in _OPTIONS_OF_START if key in step}
        with pytest.warns(RuntimeWarning, match="forked") if self._forks else contextlib.nullcontext():
            outcome = attempt(self.enqueuer.start, **given)
        return "ok" if outcome is None else outcome

    def _stop(self, step: dict, expected) -> object:
        outcome = attempt(self.enqueuer.stop)
        return "ok" if outcome is None else outcome

    def _is_running(self, step: dict, expected) -> object:
        return self.enqueuer.is_running()

    def _get(self, step: dict, expected) -> object:
        outcome = attempt(self.enqueuer.get)
        if isinstance(outcome, collections.abc.Generator):
            self._generators[step.get("as", "g")] = outcome
            return "generator"
        return outcome

    def _next(self, step: dict, expected) -> object:
        read = Read(self._generators[step.get("of", "g")], step["n"])
        self._reads[step.get("id", "")] = read
        return read.outcome(step.get("limit", BLOCKED_S) if {"blocked": True} in expected else DEADLOCK_S)

    def _finish(self, step: dict, expected) -> object:
        return self._reads[step["id"]].outcome(DEADLOCK_S)

    def _epoch_ends(self, step: dict, expected) -> object:
        return settled(lambda: self.source.epoch, expected.__contains__, step.get("after", BLOCKED_S))

    def _queue_size(self, step: dict, expected) -> object:
        return settled(self.enqueuer.queue.qsize, expected.__contains__, BLOCKED_S)

    def _run_thread_alive(self, step: dict, expected) -> object:
        return settled(self._has_workers, expected.__contains__, BLOCKED_S)

    def _has_workers(self) -> bool:
        """Whether threads or processes work for the enqueuer; where Keras has one thread that runs a pool."""
        readers = {read.thread for read in self._reads.values()}
        threads = set(threading.enumerate()) - self._threads_before - readers
        return bool(threads) or any(map(_is_worker, psutil.Process().children(recursive=True)))

    def _sleep(self, step: dict, expected) -> object:
        time.sleep(step["secs"])
        return "ok"

    def _len(self, step: dict, expected) -> object:
        return attempt(len, self.source)

    def _iterate(self, step: dict, expected) -> object:
        return attempt(lambda: [encode(item) for item in self.source])

    def _on_epoch_end(self, step: dict, expected) -> object:
        return attempt(self.source.on_epoch_end)

    def _clean_up(self) -> None:
        if not self.setup.get("no_enqueuer"):
            self.enqueuer.stop()
        for read in self._reads.values():
            assert "blocked" not in read.outcome(DEADLOCK_S), "a read still waits after the stop"
