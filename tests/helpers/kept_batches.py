"""The last batches of a loop, which must not change while other batches pass."""

from helpers.numbered_batches import numbers_of


def last_of(batches, kept, *, use=lambda batch: batch, every=1):
    """Return the last batches of `Numbered`, or what ``use`` made of them; check on the way that none is overwritten."""
    last = []
    for index, batch in enumerate(batches):
        last = [*last, use(batch)][-kept:]
        del batch
        if index % every == 0:
            assert numbers_of(last) == list(range(max(0, index - kept + 1), index + 1))
    return last
