"""The batches of one epoch of a loader."""

from mpqueue import Loader


def one_epoch(source, **options):
    """Return the batches of an epoch of a new loader."""
    with Loader(source, **options) as loader:
        return list(loader)
