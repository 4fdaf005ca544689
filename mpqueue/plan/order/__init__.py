"""The order of batches, and the plans.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    balancing.py     divides numbers into parts with equal sums
    step_costs.py    the costs of a step of all ranks
    epoch_samples.py the samples of a batch, from its position
    rules.py         invalid combinations of a source and options
    orders.py        the order of a source with an index
    drawn.py         the order of a sampler
    streams.py       the order of a stream
    balanced.py      the order of balanced ranks
    packed.py        the order of steps with micro-batches of a limited cost
    plans.py         a plan: an order, and the changes of a run
    resolve.py       from a source and options to a plan
"""
