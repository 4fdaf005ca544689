"""Each parameter and each attribute has an effect, is rejected by name, or is a hint that is listed with its reason.

A new parameter, option, public class or attribute is found by these tests, and needs an entry or a refusal.
"""

import inspect
import itertools
import threading
from functools import partial

import numpy as np
import pytest
from helpers.docstrings import MODULES, public_names
from helpers.package_structure import ROOT
from helpers.unread_parameters import unread_parameters

import mpqueue
from mpqueue import Balance, Dataset, GeneratorEnqueuer, Loader, OrderedEnqueuer, Server
from mpqueue.plan.options.options import LoaderOptions

# -- Parameters that the code does not read

_LABEL = "a label of an operation of TensorFlow's graph, which does not exist"
HINTS = {  # by module and parameter
    ("mpqueue.train", "name"): _LABEL,
    ("mpqueue.train", "summary_name"): _LABEL,
}


def test_public_functions_read_each_parameter_that_is_no_hint():
    unread = {(".".join(name.split(".")[:2]), name.split(": ")[1]): name for name in unread_parameters(MODULES)}
    assert [name for key, name in unread.items() if key not in HINTS] == []
    assert HINTS.keys() - unread.keys() == set()


# -- Options of a loader, without workers and with threads

BEGUN = []
IN_PROCESS = {"inline": {"workers": 0}, "thread": {"workers": 1, "backend": "thread"}}


class Rows:
    """A source that returns its own arrays, with a random number and the name of its thread."""

    def __init__(self, damaged=None):
        self.rows, self.damaged = np.arange(7.0), damaged

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        if index == self.damaged:
            raise ValueError("damaged")
        return {"row": self.rows[index:], "seen": (index, mpqueue.rng().random(), threading.current_thread().name)}


FIVE = partial(Dataset.range(5).filter, partial(int.__le__, 0))
DAMAGED = partial(Rows, 3)
SAMPLES = {"batch_size": 2, "collate": list, "seed": 1}
# A value of each option, and the source and the other options with which its effect shows.
SHOWN = {
    "shuffle": (True, Rows, SAMPLES),
    "batch_size": (3, Rows, SAMPLES),
    "collate": (len, Rows, SAMPLES),
    "drop_last": (True, Rows, SAMPLES),
    "sampler": ([1, 2], Rows, SAMPLES),
    "batch_sampler": ([[1, 2]], partial(range, 7), {}),
    "on_error": ("skip", DAMAGED, SAMPLES),
    "max_errors": (0, DAMAGED, SAMPLES | {"on_error": "skip"}),
    "epoch_batches": (2, FIVE, {}),
    "lanes": (1, FIVE, {"batch_size": 2}),
    "shard": ((0, 2), Rows, SAMPLES),
    "balance": (Balance(lambda index: 7 - index), Rows, SAMPLES | {"shard": (0, 2)}),
    "seed": (5, Rows, SAMPLES),
    "worker_init": (partial(BEGUN.append, 1), Rows, SAMPLES),
    "copy": (True, Rows, SAMPLES),
    "exclude": ([2], Rows, SAMPLES),
    "threads": (3, Rows, SAMPLES),
    "max_batch_bytes": (1, Rows, SAMPLES),
    "ray_options": ({}, Rows, SAMPLES),
}
SHOWN_BY = {
    "workers": "telemetry/test_statistics.py::test_sums_of_workers_are_totals",
    "backend": "plan/test_backend_kinds.py::test_new_backend_kind_works_in_every_frontend",
    "max_queue_size": "backends/test_threads.py::test_queue_is_filled_without_requests",
    "batch_timeout": "backends/test_hang.py::test_error_of_a_hanging_thread_names_the_samples_of_its_batch",
    "ordered": "loader/test_lanes.py::test_slow_worker_does_not_block_others_without_order",
    "concurrency": "samples/test_coroutines.py::test_number_of_samples_in_flight_is_bounded",
    "trace": "telemetry/test_timeline.py::test_trace_shows_when_the_consumer_waits",
    "progress": "telemetry/test_progress.py::test_each_epoch_has_complete_bar",
}
_NO_PROCESS = "no worker process exists that could crash, or be started in some way"
OPTION_HINTS = {
    "restarts": _NO_PROCESS,
    "start_method": f"{_NO_PROCESS}; with threads it is refused, and workers=0 is a switch for debugging",
}


def outcome_of(make, options):
    """Return the results of a run: the batches of two epochs, error, calls of `BEGUN`, and rows afterwards."""
    BEGUN.clear()
    source, seen = make(), []
    with Loader(source, **options) as loader:  # a refusal is raised here
        try:
            for batch in itertools.chain(loader, loader):
                samples = batch if isinstance(batch, list) else []
                seen.append([sample["seen"] for sample in samples] or np.asarray(batch).tolist())
                for sample in samples:
                    sample["row"][...] -= 1
        except (ValueError, mpqueue.errors.TooManyErrors) as error:
            seen.append(type(error))
    return seen, len(BEGUN), getattr(source, "rows", np.zeros(0)).tolist()


def acts_or_is_refused(option, kind):
    value, make, others = SHOWN[option]
    options = IN_PROCESS[kind] | others
    try:
        changed = outcome_of(make, options | {option: value})
    except ValueError as refusal:
        return str(refusal).startswith(option)
    return changed != outcome_of(make, options)


@pytest.mark.sample(12)
@pytest.mark.parametrize("kind", IN_PROCESS)
@pytest.mark.parametrize("option", LoaderOptions.__annotations__)
def test_option_acts_or_is_refused_without_worker_processes(option, kind):
    assert option in {**SHOWN_BY, **OPTION_HINTS} or acts_or_is_refused(option, kind)


def test_named_tests_exist():
    for reference in SHOWN_BY.values():
        path, name = reference.split("::")
        assert f"def {name}(" in (ROOT / "tests" / path).read_text("utf-8"), reference


# -- Attributes that are assigned later

# An instance of each public class that a program changes; a function is called for a new one.
MADE = {
    "mpqueue.Balance": partial(Balance, [1, 2]),
    "mpqueue.BatchInfo": lambda: Loader(range(3), batch_size=2, workers=0).explain(0, 0),
    "mpqueue.Dataset": partial(Dataset, [1, 2]),
    "mpqueue.GeneratorEnqueuer": partial(GeneratorEnqueuer, lambda: iter([1])),
    "mpqueue.Loader": partial(Loader, Rows(), batch_size=2, workers=0),
    "mpqueue.OrderedEnqueuer": partial(OrderedEnqueuer, Rows()),
    "mpqueue.Ragged": lambda: mpqueue.Ragged(np.arange(3), np.array([0, 1, 3])),
    "mpqueue.Sequence": mpqueue.Sequence,
    "mpqueue.SequenceEnqueuer": partial(mpqueue.SequenceEnqueuer, Rows()),
    "mpqueue.Server": partial(Server, "effects", [1, 2], batch_size=1, workers=1),
    "mpqueue.Statistics": mpqueue.Statistics,
    "mpqueue.WorkerInfo": partial(mpqueue.WorkerInfo, 0, 1, 2),
}
# Public classes with instances that only report what happened, or that `tests/files` and `tests/service` make.
NOT_MADE = {"mpqueue.Consumer": "made by attach(), whose arguments are no attributes"}
_NEXT_START = "the next start reads it: frameworks/enqueuers/test_enqueuers.py"
LATER = {
    "mpqueue.GeneratorEnqueuer": dict.fromkeys(("sequence", "lanes", "use_multiprocessing"), _NEXT_START),
    "mpqueue.OrderedEnqueuer": dict.fromkeys(("sequence", "shuffle", "use_multiprocessing"), _NEXT_START),
    "mpqueue.SequenceEnqueuer": dict.fromkeys(("sequence", "use_multiprocessing"), _NEXT_START),
    "mpqueue.Sequence": dict.fromkeys(
        ("workers", "use_multiprocessing", "max_queue_size"), "an enqueuer that is made later reads it"
    ),
}


def classes():
    """Return the public classes except errors, files and TensorFlow 1's, which only hold their arguments."""
    names = public_names(("mpqueue",))
    return [name for name, value in names.items() if inspect.isclass(value) and name not in NOT_MADE]


@pytest.mark.parametrize("name", classes())
def test_attribute_that_is_assigned_later_raises_or_acts(name):
    made, later = MADE[name](), LATER.get(name, {})
    arguments = [
        each
        for each, about in inspect.signature(type(made)).parameters.items()
        if about.kind < about.VAR_POSITIONAL or about.kind is about.KEYWORD_ONLY
    ]
    shown = [each for each in dir(made) if each[0] != "_" and not callable(getattr(type(made), each, None))]
    accepted = []
    for attribute in {*arguments, *shown}:
        try:
            setattr(made, attribute, getattr(made, attribute, None))
        except (AttributeError, TypeError):
            continue
        accepted.append(attribute)
    assert sorted(accepted) == sorted(later)


def test_refused_assignment_names_the_remedy():
    loader = Loader(Rows(), batch_size=2, workers=0)
    with pytest.raises(AttributeError, match=r"batch_size is fixed when a Loader is made, .*: make another one"):
        loader.batch_size = 3
    loader.note = "attributes of the program itself are free"


# -- Attributes of an enqueuer that the next start reads


def test_enqueuer_reads_its_attributes_at_the_next_start():
    enqueuer = OrderedEnqueuer(range(3))
    for sequence, shuffle, expected in ((range(3), False, [0, 1, 2]), ([5, 6], False, [5, 6]), (range(9), True, None)):
        enqueuer.sequence, enqueuer.shuffle = sequence, shuffle
        enqueuer.start(0)
        found = [*itertools.islice(enqueuer.get(), len(sequence))]
        assert sorted(found) == [*sequence] and (found == expected or shuffle)
        enqueuer.stop()
