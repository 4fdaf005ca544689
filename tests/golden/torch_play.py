"""Plays a case of the topic torch, on the `DataLoader` that it is given: mpqueue's, or torch's own."""

import copy
import gc
import os
import pickle
import random
import re
import time
import warnings
from typing import NamedTuple

import numpy as np
import torch

from golden import torch_data
from golden.torch_values import decode, encode, numbers_in, same

_FOR_GOOD_S = 60.0  # until its worker is ended

SETTLED_S = 0.3  # a count that has not grown for so long has stopped to grow


class Play:
    """One case.

    Args:
        case: The case.
        loader_class: Makes the loader.
        log: A file for the dataset to count in.
    """

    def __init__(self, case, loader_class, log):
        self.case, self.loader_class, self.log = case, loader_class, log
        self.dataset = self.sampler = self.generator = self.loader = None
        self.options = {}
        self.iterators, self.kept, self.results = {}, [], []
        self.state = self.seen = None

    def run(self):
        seed = self.case.get("seed", 0)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        with warnings.catch_warnings(record=True) as self.seen:
            warnings.simplefilter("always")
            try:
                self._play()
            finally:
                self.iterators.clear()
                self.loader = None
                gc.collect()

    def _play(self):
        try:
            self._create()
            refusal = None
        except Exception as error:
            refusal = error
        self._compare(refusal, self.case["create"], "the constructor")
        if refusal is not None:
            return
        for index, step in enumerate(self.case.get("steps", ()), 1):
            where = f"step {index}, {step['do']}"
            try:
                got = STEPS[step["do"]](self, step)
            except Exception as error:
                got = error
            self.results.append(got)
            self._compare(got, step["expect"], where)

    def _create(self):
        options = copy.deepcopy(self.case["loader"])
        described = dict(self.case["dataset"])
        if "timeout" in options:  # what sleeps for longer than that must not be done when a busy machine comes to look
            slept = described.get("sleep_at", {}).items()
            described["sleep_at"] = {item: _FOR_GOOD_S if s > options["timeout"] else s for item, s in slept}
        self.dataset = torch_data.make_dataset(described, self.log, decode)
        if "generator" in options:
            options["generator"] = self.generator = torch.Generator().manual_seed(options["generator"])
        for name in ("sampler", "batch_sampler"):
            if name in options:
                self.sampler = torch_data.make_sampler(options[name], self.dataset)
                options[name] = self.sampler
        for name in ("collate_fn", "worker_init_fn"):
            if name in options:
                options[name] = torch_data.FUNCTIONS[options[name]]
        self.options = options
        self.loader = self.loader_class(self.dataset, **options)

    # -- Comparing

    def _compare(self, got, expected, where):
        if isinstance(expected, dict) and "error" in expected:
            assert isinstance(got, Exception), f"{where}: {got!r}, expected {expected}"
            assert not (why := _unlike(got, expected)), f"{where}: {why}"
        elif isinstance(got, Exception):
            raise AssertionError(f"{where}: {got!r}, expected {expected}") from got
        elif expected == "ok":
            assert got is None, f"{where}: {got!r}"
        elif isinstance(got, _Taken):
            self._compare_taken(got, expected, where)
        elif isinstance(expected, dict) and ("at_most" in expected or "at_least" in expected):
            assert expected.get("at_least", got) <= got <= expected.get("at_most", got), f"{where}: {got}"
        elif isinstance(expected, dict) and "says" in expected:
            assert any(expected["category"] == kind and expected["says"] in text for kind, text in got), (where, got)
        elif isinstance(expected, dict) and "object" in expected:
            assert type(got).__name__ == expected["object"], (where, got)
        else:
            assert same(got, expected), f"{where}: {got!r}, expected {expected!r}"

    def _compare_taken(self, got, expected, where):
        batches, then = got.batches, expected["then"]
        if isinstance(then, dict):
            assert isinstance(got.then, Exception), f"{where}: {batches}, then {got.then!r}, expected {then}"
            assert not (why := _unlike(got.then, then)), f"{where}: {why}"
        elif got.then != then:
            cause = got.then if isinstance(got.then, Exception) else None
            raise AssertionError(f"{where}: {batches}, then {got.then!r}, expected {then}") from cause
        for kind, value in expected.items():
            if kind not in {"then", "numbers"}:
                assert HOLDS[kind](self, value, batches, expected), f"{where}: {batches}, expected {kind} {value}"

    # -- Steps

    def take(self, iterator, limit):
        """Take so many batches at most (None: all)."""
        batches, then = [], "more"
        while limit is None or len(batches) < limit:
            try:
                batch = next(iterator)
            except StopIteration:
                then = "end"
                break
            except Exception as error:
                then = error
                break
            self.kept.append(batch)
            batches.append(encode(batch))
        return _Taken(batches, then)

    def drop_loader(self, _step):
        self.loader = None
        gc.collect()

    def randint(self, step):
        generator = self.generator if step.get("of") == "generator" else None
        return int(torch.randint(0, 2**31 - 1, (1,), generator=generator))

    def seed(self, step):
        if step.get("of") == "generator":
            self.generator.manual_seed(step["value"])
        else:
            torch.manual_seed(step["value"])

    def get(self, step):
        value = getattr(getattr(self, step["on"]), step["name"])
        return value if isinstance(step["expect"], dict) and "object" in step["expect"] else encode(value)

    def asked(self, _step):
        count, since = -1, time.monotonic()
        while time.monotonic() - since < SETTLED_S:
            now = os.path.getsize(self.log) if os.path.exists(self.log) else 0
            if now != count:
                count, since = now, time.monotonic()
            time.sleep(0.02)
        return count

    def load(self, step):
        self.iterators.clear()
        self.loader = self.loader_class(self.dataset, **self.options | step.get("loader", {}))
        self.loader.load_state_dict(pickle.loads(self.state))


class _Taken(NamedTuple):
    batches: list
    then: object


def _unlike(error, expected):
    """Say how an error differs from the expected one; empty if it does not."""
    names = expected["error"] if isinstance(expected["error"], list) else [expected["error"]]
    if not {kind.__name__ for kind in type(error).__mro__} & set(names):
        return f"{error!r} is no {expected['error']}"
    if not re.search(expected.get("match", ""), str(error), re.DOTALL):
        return f"{error!r} does not match {expected['match']!r}"
    return ""


# By name: what a step does, and its outcome.
STEPS = {
    "epoch": lambda play, step: play.take(iter(play.loader), step.get("take")),
    "iter": lambda play, step: play.iterators.update({step.get("as", "a"): iter(play.loader)}),
    "next": lambda play, step: play.take(play.iterators[step.get("of", "a")], step.get("n", 1)),
    "drop loader": Play.drop_loader,
    "len": lambda play, step: len(play.iterators[step["of"]] if "of" in step else play.loader),
    "randint": Play.randint,
    "other generators": lambda play, step: [random.randrange(2**31), int(np.random.randint(2**31))],
    "seed": Play.seed,
    "get": Play.get,
    "set": lambda play, step: setattr(getattr(play, step["on"]), step["name"], decode(step["value"])),
    "call": lambda play, step: getattr(getattr(play, step["on"]), step["name"])(*map(decode, step.get("args", ()))),
    "same iterator": lambda play, step: play.iterators["a"] is play.iterators["b"],
    "is a DataLoader": lambda play, step: isinstance(play.loader, torch.utils.data.DataLoader),
    "drawn": lambda play, step: play.sampler.drawn,
    "begun": lambda play, step: play.sampler.begun,
    "asked": Play.asked,
    "kept": lambda play, step: _Taken([encode(batch) for batch in play.kept], "end"),
    "warnings": lambda play, step: [(each.category.__name__, str(each.message)) for each in play.seen],
    "save": lambda play, step: setattr(play, "state", pickle.dumps(play.loader.state_dict())),
    "load": Play.load,
}


def _completes(play, steps, batches, expected):
    """Return whether the batches and those of some steps are all numbers together."""
    found = numbers_in(batches) + [number for step in steps for number in numbers_in(play.results[step - 1].batches)]
    return sorted(found) == list(range(expected["numbers"]))


# By name: whether batches are as expected.
HOLDS = {
    "batches": lambda _, value, batches, __: len(batches) == len(value) and all(map(same, batches, value)),
    "multiset": lambda _, value, batches, __: sorted(map(repr, batches)) == sorted(map(repr, value)),
    "each_of": lambda _, value, batches, __: all(any(same(batch, one) for one in value) for batch in batches),
    "count": lambda _, value, batches, __: len(batches) == value,
    "prefix_of": lambda _, value, batches, __: len(batches) <= len(value) and all(map(same, batches, value)),
    "all_differ": lambda _, value, batches, __: len(set(numbers_in(batches))) == len(numbers_in(batches)),
    "same_as_step": lambda play, value, batches, _: batches == play.results[value - 1].batches,
    "not_as_step": lambda play, value, batches, _: batches != play.results[value - 1].batches,
    "completes": _completes,
}
