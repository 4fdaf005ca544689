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
                got = getattr(self, "_do_" + step["do"].replace(" ", "_"))(step)
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
                assert self._holds(kind, value, batches, expected), f"{where}: {batches}, expected {kind} {value}"

    def _holds(self, kind, value, batches, expected):
        if kind == "batches":
            return len(batches) == len(value) and all(map(same, batches, value))
        if kind == "multiset":
            return sorted(map(repr, batches)) == sorted(map(repr, value))
        if kind == "each_of":
            return all(any(same(batch, one) for one in value) for batch in batches)
        if kind == "count":
            return len(batches) == value
        if kind == "prefix_of":
            return len(batches) <= len(value) and all(map(same, batches, value))
        if kind == "all_differ":
            return len(set(numbers_in(batches))) == len(numbers_in(batches))
        if kind == "same_as_step":
            return batches == self.results[value - 1].batches
        if kind == "not_as_step":
            return batches != self.results[value - 1].batches
        assert kind == "completes", kind
        found = numbers_in(batches) + [n for step in value for n in numbers_in(self.results[step - 1].batches)]
        return sorted(found) == list(range(expected["numbers"]))

    # -- Steps

    def _take(self, iterator, limit):
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

    def _do_epoch(self, step):
        return self._take(iter(self.loader), step.get("take"))

    def _do_iter(self, step):
        self.iterators[step.get("as", "a")] = iter(self.loader)

    def _do_next(self, step):
        return self._take(self.iterators[step.get("of", "a")], step.get("n", 1))

    def _do_drop_loader(self, _step):
        self.loader = None
        gc.collect()

    def _do_len(self, step):
        return len(self.iterators[step["of"]] if "of" in step else self.loader)

    def _do_randint(self, step):
        generator = self.generator if step.get("of") == "generator" else None
        return int(torch.randint(0, 2**31 - 1, (1,), generator=generator))

    def _do_other_generators(self, _step):
        return [random.randrange(2**31), int(np.random.randint(2**31))]

    def _do_seed(self, step):
        if step.get("of") == "generator":
            self.generator.manual_seed(step["value"])
        else:
            torch.manual_seed(step["value"])

    def _object(self, step):
        return getattr(self, step["on"])

    def _do_get(self, step):
        value = getattr(self._object(step), step["name"])
        return value if isinstance(step["expect"], dict) and "object" in step["expect"] else encode(value)

    def _do_set(self, step):
        setattr(self._object(step), step["name"], decode(step["value"]))

    def _do_call(self, step):
        getattr(self._object(step), step["name"])(*map(decode, step.get("args", ())))

    def _do_same_iterator(self, _step):
        return self.iterators["a"] is self.iterators["b"]

    def _do_is_a_DataLoader(self, _step):
        return isinstance(self.loader, torch.utils.data.DataLoader)

    def _do_drawn(self, _step):
        return self.sampler.drawn

    def _do_begun(self, _step):
        return self.sampler.begun

    def _do_asked(self, _step):
        count, since = -1, time.monotonic()
        while time.monotonic() - since < SETTLED_S:
            now = os.path.getsize(self.log) if os.path.exists(self.log) else 0
            if now != count:
                count, since = now, time.monotonic()
            time.sleep(0.02)
        return count

    def _do_kept(self, _step):
        return _Taken([encode(batch) for batch in self.kept], "end")

    def _do_add_to_kept(self, step):
        for batch in self.kept:
            batch += step.get("value", 1)

    def _do_warnings(self, _step):
        return [(warning.category.__name__, str(warning.message)) for warning in self.seen]

    def _do_save(self, _step):
        self.state = pickle.dumps(self.loader.state_dict())

    def _do_load(self, step):
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
