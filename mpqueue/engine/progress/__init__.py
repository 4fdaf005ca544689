"""The counted batches, and which of them the user has.

The modules, from the bottom up. A module imports only from its own line and the lines above it::

    deliveries.py     batches that a frontend has taken, and its user does not have
    returned_parts.py the samples of each part of a mixture in the delivered batches
    progress.py       the position up to which batches are counted
    counts.py         how many batches were counted, and which one the user got last
"""
