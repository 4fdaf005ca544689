"""Random numbers: each batch and each sample has its own, derived from (seed, epoch, index).

The modules, from the bottom up. A module imports only from its own line and the lines above it::

    seeds.py              seeds and shuffled orders from (seed, epoch, index)
    picks.py              the picks of a shuffle buffer
    permutation.py        the shuffled order of samples, computed position by position: a billion samples cost no memory
    block_order.py        the order of samples that is shuffled by blocks of neighbours
    generators.py         the random generators that an object holds, and their states as plain data
    global_rng.py         seeding and states of the generators that all code of a process shares
    lazy_seeding.py       seeds them for each batch or sample, if the source draws from them
    eager_seeding.py      seeds them for each sample in any case
"""
