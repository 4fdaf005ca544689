"""Each kind of backend is listed in the options, works in every frontend, and has a class with all attributes."""

import os
import sys
from types import SimpleNamespace
from typing import get_args
from unittest.mock import Mock

import pytest
from helpers.computed_source import Computed
from helpers.one_epoch import one_epoch

import mpqueue
from mpqueue.backends.inline import InlineBackend
from mpqueue.frameworks.keras.passes import PassEnqueuer
from mpqueue.plan.options.backend_kinds import _KINDS, BackendKind, BackendName, kind_of
from mpqueue.plan.options.options import Options


def test_backend_name_and_error_list_every_kind():
    assert get_args(BackendName) == tuple(_KINDS)
    with pytest.raises(ValueError, match="backend must be") as raised:
        kind_of("no such")
    assert [name for name in _KINDS if f'"{name}"' not in str(raised.value)] == []


def of_loader(source, **options):
    return one_epoch(source, workers=1, **options)


def of_ordered_enqueuer(source, **options):
    with mpqueue.OrderedEnqueuer(source, **options) as enqueuer:
        enqueuer.start()
        return [batch for _, batch in zip(source, enqueuer.get(), strict=False)]


def of_generator_enqueuer(source, **options):
    with mpqueue.GeneratorEnqueuer(lambda: iter(source), **options) as enqueuer:
        enqueuer.start()
        return list(enqueuer.get())


def of_keras(source, *, backend):
    """Return the batches of the part of `accelerate` that works without Keras."""
    in_processes = kind_of(backend).copies_source
    enqueuer = PassEnqueuer(source, use_multiprocessing=in_processes, options=Options(backend=backend))
    enqueuer.start()
    batches = list(enqueuer.get())
    enqueuer.park()
    return batches


@pytest.mark.parametrize("in_processes", [True, False])
@pytest.mark.parametrize("taken", [of_loader, of_ordered_enqueuer, of_generator_enqueuer, of_keras])
def test_new_backend_kind_works_in_every_frontend(taken, in_processes, monkeypatch):
    make_backend = Mock(side_effect=lambda _name, ledger, _lock, job: InlineBackend(ledger, job))
    monkeypatch.setitem(sys.modules, "maker_of_a_new_kind", SimpleNamespace(make_backend=make_backend))
    monkeypatch.setitem(_KINDS, "new", BackendKind(*[in_processes] * 3, is_local=True, maker="maker_of_a_new_kind"))
    assert taken([10, 11, 12], backend="new") == [10, 11, 12]
    assert [call.args[0] for call in make_backend.call_args_list] == ["new"]


def test_option_without_effect_on_a_kind_is_rejected_with_its_name(monkeypatch):
    monkeypatch.setitem(_KINDS, "new", BackendKind(*[False] * 3, is_local=True, maker="none"))
    with pytest.raises(ValueError, match="backend='new' has no processes: leave it out, or use backend=\"process\""):
        mpqueue.Loader([1], backend="new", start_method="spawn")
    with pytest.raises(ValueError, match="backend='new' and use_multiprocessing=True contradict each other"):
        mpqueue.OrderedEnqueuer([1], use_multiprocessing=True, backend="new")


def test_use_multiprocessing_set_after_construction_selects_the_backend():
    enqueuer = mpqueue.OrderedEnqueuer(Computed(lambda _: os.getpid()), backend="thread")
    for in_processes in (True, False):
        enqueuer.use_multiprocessing = in_processes
        enqueuer.start(1)
        assert (next(enqueuer.get()) != os.getpid()) is in_processes
        enqueuer.stop()
