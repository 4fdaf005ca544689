"""Plans: a source and its options, resolved once into the batches to compute and their order.

A plan is immutable and pure: it starts no process, reads no clock and opens no file descriptor. A *cursor*, made from a
plan, is the mutable part: it deals the work items of one run.

Modules, from the ground up. A module imports only from its own line and the lines above it::

    ids/      ids of samples: sets, their batches, the exclusions of a run
    options/  the options: types, defaults, checks and descriptions
    position/ where a run is: cursors, ranks, lanes, samplers
    sources/  sources: what an object is, and its batches
    order/    the order of batches, and the plans
    states/   saved states
"""
