"""Run a source in a worker: by index, in lanes, from a generator.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    runner.py            runs a source with an index; timed batches, with the work of their stages
    fixed_seeds.py       random numbers of the elements before a cache
    lanes.py             the protocol of sources with lanes
    sample_runner.py     runs a source of samples, one batch at a time
    in_flight.py         runs a source with several samples in flight
    coroutine_runners.py run a source with coroutines
    elements.py          elements of an iterator, one by one or in batches
    generator_lanes.py   lanes of generator functions; plain iterators
    lane_runner.py       runs the lanes of a worker, and takes their snapshots
    runners.py           creates the runner of a source
"""
