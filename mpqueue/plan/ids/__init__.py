"""Ids of samples: sets, their batches, the exclusions of a run.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    batch_info.py    `BatchInfo`: which samples are in a batch
    batch_samples.py `BatchSamples`: the samples that a worker computes for one batch
    sample_ids.py    sets of sample ids
    history.py       the seeks, exclusions and changes of weights of a run
"""
