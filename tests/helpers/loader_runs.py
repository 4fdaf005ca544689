"""Runs of a loader, for tests that need only its batches and its states."""

import json

from mpqueue import Loader


def plain(value):
    """Return a batch as lists, numbers and strings."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def batches_of(source, *, epochs=1, state=None, **options):
    """Return the batches of a loader in its next epochs, as plain data. It continues from a state, if any."""
    with Loader(source, **options) as loader:
        if state is not None:
            loader.load_state_dict(state)
        return [plain(batch) for _ in range(epochs) for batch in loader]


def begun(source, count, *, state=None, **options):
    """Return the next batches of a loader, as plain data, and its state after them."""
    with Loader(source, **options) as loader:
        if state is not None:
            loader.load_state_dict(state)
        batches = iter(loader)
        found = [plain(next(batches)) for _ in range(count)]
        return found, json.loads(json.dumps(loader.state_dict()))
