"""Plays the steps of a Keras case on an enqueuer, and judges what came of each.

A `Play` owns the enqueuer of one case, the generators that its `get` steps made, and the reads that still run. Each
read has a thread of its own, so that one that blocks can be left to a later `finish`; a time limit is only ever for
deadlocks, or for what must not happen.

What mpqueue does otherwise on purpose is found by rules, not by the ids of cases: before each step `contradiction` may
name one of the ``DIFFERENCES`` and the outcome to expect instead, which the model of the source predicts. Where no
rule speaks, the case does.
"""

import collections.abc
import contextlib
import dataclasses
import json
import os
import threading
import time

import psutil
import pytest

from golden import enqueuer_sources
from golden.enqueuer_model import GeneratorModel, SequenceModel, most_lost
from golden.values import encode

DEADLOCK_S = 60.0  # what has not happened by then never will
BLOCKED_S = 0.25  # the cases call a read blocked that took longer than this
# Allowed beside the seconds that a case names. Amid fifty runnable threads on two CPUs a stop of three processes took
# 0.8 s; one that waits for what it should not waits for good.
SLACK_S = 5.0

DIFFERENCES = {
    "next before start": "RuntimeError: it is a mistake of the program, and the end of the stream would hide it",
    "second start": "RuntimeError, and the run goes on unharmed: a second run would share the first one's workers",
    "empty": "ValueError at start: Keras waits without end for an item of a sequence of length 0",
    "unbounded ring": "ValueError at start: max_queue_size=0 needs memory without bound, and a ring has a bound",
    "inline": "workers=0 computes each item in the caller; Keras makes a pool of no workers, and hangs",
    "lost on restart": "how many prepared items of a generator a stop drops depends on how far the workers were",
}


@dataclasses.dataclass(frozen=True)
class Instead:
    """What to expect of a step in place of the case's own expectation, and which difference is the reason."""

    difference: str
    expect: object
    ends_case: bool = False  # nothing that follows in the case has a meaning any more


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

    @property
    def is_over(self) -> bool:
        return not self.thread.is_alive()

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
    """Workers are children of a nursery, or forks of this process; a nursery without any may stay a while."""
    try:
        return process.ppid() != os.getpid() or process.cmdline() == psutil.Process().cmdline()
    except psutil.NoSuchProcess:
        return False


def settled(read, expected, hold: float) -> object:
    """The value of ``read()`` once it has been `expected` for `hold` seconds without a break; else its last one."""
    deadline = time.monotonic() + DEADLOCK_S
    since = None
    while True:
        value, now = read(), time.monotonic()
        since = None if value != expected else now if since is None else since
        if (since is not None and now - since >= hold) or now > deadline:
            return value
        time.sleep(0.005)


class Play:
    """One case on its way.

    Args:
        case: The case.
        classes: Where the enqueuer classes are found: `mpqueue`, or something else under test.
    """

    source_class = enqueuer_sources.Items
    start_arguments: tuple[str, ...] = ()  # constructor arguments of the case that mpqueue takes at `start`

    def __init__(self, case: dict, classes):
        self.case, self.setup = case, case["setup"]
        self.is_generator = "generator" in self.setup
        self.is_random = case.get("random", False)
        self.phase = "new"  # or "running", or "stopped"
        self.runs = 0
        self.start_refused = False  # a second start was: the run from before it goes on
        self.options = {"workers": 1, "max_queue_size": 10}  # of the run
        self.epochs_at_stop = 0
        self._first_epoch = 0  # calls of on_epoch_end before this run
        self._resumes = False  # a generator goes on in a new run, and nothing of it was read yet
        self._has_resumed = False
        self._over: set[str] = set()  # generators of `get` that have ended
        self._reads: dict[str, Read] = {}
        self._generators: dict = {}
        self._threads_before = set(threading.enumerate())
        self._make(classes)

    def _make(self, classes) -> None:
        arguments = dict(self.setup.get("args", {}))
        self._at_start = {name: arguments.pop(name) for name in self.start_arguments if name in arguments}
        self.uses_processes = arguments.get("use_multiprocessing", False)
        if self.is_generator:
            self.source = enqueuer_sources.generator(self.setup["generator"])
            self.model = GeneratorModel(self.setup["generator"])
        else:
            self.source = self.source_class(self.setup["sequence"])
            self.model = SequenceModel(self.setup["sequence"])
        if not self.setup.get("no_enqueuer"):
            self.enqueuer = getattr(classes, self.setup.get("class", "OrderedEnqueuer"))(self.source, **arguments)

    def run(self) -> None:
        """Play all steps; an AssertionError names the one that went wrong."""
        try:
            for number, step in enumerate(self.case["steps"]):
                if self._play(number, step):
                    break
        finally:
            self._clean_up()

    def _play(self, number: int, step: dict) -> bool:
        predicted = self._predict(step)
        instead = self.contradiction(step, predicted)
        expected = step.get("expect") if instead is None else instead.expect
        began = time.monotonic()
        outcome = getattr(self, f"_{step['do']}")(step, expected)
        took = time.monotonic() - began
        where = f"step {number}, {step}{f' (differs: {instead.difference})' if instead else ''}"
        if step["do"] == "next" and self.phase == "running" and "blocked" not in outcome:
            self._judge_read(step, outcome, expected, where)
        else:
            assert matches(outcome, expected), f"{where}: got {outcome}, expected {expected}"
        assert took <= step.get("took_about", DEADLOCK_S) + SLACK_S, f"{where}: took {took:.2f} s"
        self._follow(step, outcome)
        return instead is not None and instead.ends_case

    def _judge_read(self, step: dict, outcome: dict, expected: dict, where: str) -> None:
        if self._resumes:
            lost = most_lost(self.options["max_queue_size"], self.options["workers"])
            self.model.resume(lambda: matches(outcome, self.model.take(step["n"])), lost)
            expected, self._resumes = self.model.take(step["n"]), False
        if self.is_random:
            assert len(outcome["values"]) == len(expected["values"]), f"{where}: {outcome}"
            assert matches(outcome | {"values": []}, expected | {"values": []}), f"{where}: {outcome}"
            assert (wrong := self.model.misfit(outcome)) is None, f"{where}: {wrong}"
        else:
            assert matches(outcome, expected), f"{where}: got {outcome}, expected {expected}"

    # What the model says of a step, and what the step means for those to come.

    def _predict(self, step: dict):
        """What mpqueue should make of this step in a run, by the model; None where it cannot tell."""
        if step["do"] == "epoch_ends":
            return self._epochs if self.phase == "running" else self.epochs_at_stop
        if self.phase != "running" or (step["do"] == "next" and self._resumes):
            return None
        if step["do"] == "next" and step.get("of", "g") in self._over:
            return {"values": [], "end": "StopIteration"}
        if step["do"] == "next":
            return {"values": [None] * step["n"]} if self.is_random else self.model.take(step["n"])
        if step["do"] == "queue_size" and not self.is_generator:
            sizes = (self.options["max_queue_size"], self.model.left_of_epoch)
            return min((size for size in sizes if size), default=None)
        return None

    @property
    def _epochs(self) -> int:
        """Calls of on_epoch_end, once the one that may be due has come."""
        return self._first_epoch + self.model.epochs_taken

    def _follow(self, step: dict, outcome) -> None:
        refused = isinstance(outcome, dict) and "error" in outcome
        if step["do"] == "next" and not {"error", "end"}.isdisjoint(outcome):
            self._over.add(step.get("of", "g"))
        if step["do"] == "start" and not refused:
            self._run_began(step)
        elif step["do"] == "start":
            self.start_refused = self.phase == "running"
        elif (step["do"] == "stop" or (step["do"] == "next" and refused)) and self.phase == "running":
            self._run_ended()

    def _run_began(self, step: dict) -> None:
        self.phase, self.start_refused = "running", False
        self.runs += 1
        if self.is_generator and self.uses_processes:  # each worker of each run gets a copy of what the trainer holds
            self.model = GeneratorModel(self.setup["generator"], copies=self.options["workers"])
        elif self.is_generator:
            self._resumes = self._has_resumed = self.runs > 1
        if not self.is_generator:
            self._first_epoch = self.source.epoch
            self.model.begin(self._first_epoch)

    def _run_ended(self) -> None:
        self.phase = "stopped"
        if not self.is_generator and not self.model.is_silent:
            self.epochs_at_stop = self.source.epoch
            due = 1 if self.model.is_at_epoch_end else 0  # a stop straight after the last batch: no on_epoch_end
            assert self._epochs - due <= self.epochs_at_stop <= self._epochs, f"{self.epochs_at_stop} epoch ends"

    def contradiction(self, step: dict, predicted) -> Instead | None:
        """The difference that this step shows, if any. Topics add their own before these."""
        do, expect = step["do"], step.get("expect")
        if do == "start":
            return self._refused_start(step)
        if do == "next" and self.phase == "new":
            return Instead("next before start", {"values": [], "error": "RuntimeError"})
        if do == "next" and self._has_resumed and not self.is_random:
            return Instead("lost on restart", predicted)
        if predicted is None or predicted == expect:
            return None
        if self.start_refused:
            return Instead("second start", predicted)
        if self.options["workers"] == 0 and do == "next":
            return Instead("inline", predicted)
        return None

    def _refused_start(self, step: dict) -> Instead | None:
        options = self.options | self._at_start | {key: step[key] for key in self.options if key in step}
        if self.phase == "running":
            return Instead("second start", {"error": "RuntimeError"})
        if not self.is_generator and self.setup["sequence"]["len"] == 0:
            return Instead("empty", {"error": "ValueError"}, ends_case=True)
        if self.uses_processes and options["max_queue_size"] < 1:
            return Instead("unbounded ring", {"error": "ValueError"}, ends_case=True)
        return None

    # The steps: each takes the step and what is expected of it, and returns the outcome.

    def _start(self, step: dict, expected) -> object:
        given = self._at_start | {key: step[key] for key in self.options if key in step}
        forks = self.is_generator and self.uses_processes  # a live generator cannot be sent
        with pytest.warns(RuntimeWarning, match="forked") if forks else contextlib.nullcontext():
            outcome = attempt(self.enqueuer.start, **given)
        if outcome is None and self.phase != "running":
            self.options = self.options | given
        return "ok" if outcome is None else outcome

    def _stop(self, step: dict, expected) -> object:
        given = {"timeout": step["timeout"]} if "timeout" in step else {}
        outcome = attempt(self.enqueuer.stop, **given)
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
        return read.outcome(step.get("limit", BLOCKED_S) if expected == {"blocked": True} else DEADLOCK_S)

    def _finish(self, step: dict, expected) -> object:
        return self._reads[step.get("id", "")].outcome(DEADLOCK_S)

    def _epoch_ends(self, step: dict, expected) -> object:
        return settled(lambda: self.source.epoch, expected, step.get("after", BLOCKED_S))

    def _queue_size(self, step: dict, expected) -> object:
        return settled(self.enqueuer.queue.qsize, expected, BLOCKED_S)

    def _run_thread_alive(self, step: dict, expected) -> object:
        return settled(self._has_workers, expected, BLOCKED_S)

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
