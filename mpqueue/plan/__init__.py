"""Plans: a source and its options, resolved once into the batches to compute and their order.

A plan is immutable and pure: it starts no process, reads no clock and opens no file descriptor. A *cursor*, made from a
plan, is the mutable part: it deals the work items of one run.

Modules, from the ground up. A module imports only from its own line and the lines above it::

    backend_kinds.py        the properties of each backend
    ray_options.py          the options of the Ray backend
    coroutines.py           recognises coroutine functions and asynchronous generators
    refused.py              source validation: the kind of source that an object is, or an error
    batch_types.py          the type of a batch, from that of the source
    batch_info.py           `BatchInfo`: which samples are in a batch
    batching.py             how workers run a source, and how samples become batches
    sample_ids.py           sets of sample ids
    history.py              the seeks, exclusions and changes of weights of a run
    checks.py               checks of the value of one option
    balance.py              `Balance`: how samples are divided among ranks, and their costs
    columns.py              reads a column of a source
    balancing.py            divides numbers into parts with equal sums
    options.py              the table of options: types, defaults, checks and descriptions
    signatures.py           signatures and docstrings from that table
    sequence.py             `Sequence`, the base class of sources
    lanes.py                where each lane can be resumed, and where it ends
    cursors.py              work items, places, and the cursors that deal them
    ranks.py                the batches of one rank among several
    exclusions.py           exclusions with several ranks, which return equally many batches
    epoch_samples.py        the samples of a batch, from its number
    sources.py              the source classes, and how an object is classified
    rules.py                invalid combinations of a source and options
    sampler_fingerprint.py  checksums of the indices that a sampler returned
    sampler_state.py        the random state that a sampler's order depends on
    draws.py                batches drawn from a sampler
    compact.py              snapshots of lanes as a short string
    lane_states.py          states of streams, of one rank or of all
    checksums.py            checksums of saved states, the same in any file format
    saved_states.py         the keys of a saved state, and the checks of a loaded one
    rank_states.py          states of sources with an index, and their ranks
    plans.py                the four kinds of plan
    balanced.py             the order of balanced ranks
    packed.py               the order of steps with micro-batches of a limited cost
    resolve.py              from a source and options to a plan
"""
