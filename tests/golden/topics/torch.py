"""torch's `DataLoader`, on mpqueue's workers; ``--stock`` plays the cases on torch's own, which proves the player right."""

import gc
import os
import tempfile

import pytest
from torch.utils import data

import mpqueue.torch
from golden.torch_play import Play

gc.freeze()  # each case collects garbage, which takes 60 ms with all objects of torch


def run(case, _folder):
    """Play the case."""
    _play(case, mpqueue.torch.DataLoader)


def run_stock(case, _folder):
    """Play the case on torch's own class."""
    if case.get("stock") is False:
        pytest.skip("torchdata refuses another number of workers")
    stateful = case.get("class") == "StatefulDataLoader"
    torchdata = pytest.importorskip("torchdata.stateful_dataloader") if stateful else data
    _play(case, torchdata.StatefulDataLoader if stateful else data.DataLoader)


def _play(case, loader_class):
    with tempfile.TemporaryDirectory() as folder:
        Play(case, loader_class, os.path.join(folder, "log")).run()
