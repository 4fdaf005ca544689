"""torch's `DataLoader`, on mpqueue's workers; ``--stock`` plays the cases on torch's own, which proves the player right."""

import os
import tempfile

import pytest
from torch.utils import data

import mpqueue.torch
from golden.torch_play import Play


def run(case, _folder):
    """Play the case."""
    _play(case, mpqueue.torch.DataLoader)


def run_stock(case, _folder):
    """Play the case on torch's own class."""
    if case.get("class") == "StatefulDataLoader":
        pytest.skip("recorded with torchdata's StatefulDataLoader, not with torch's own class")
    _play(case, data.DataLoader)


def _play(case, loader_class):
    with tempfile.TemporaryDirectory() as folder:
        Play(case, loader_class, os.path.join(folder, "log")).run()
