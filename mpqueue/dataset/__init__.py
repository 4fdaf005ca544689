"""`Dataset` and the computation of its elements, by index for indexed datasets and in lanes for streams.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    arguments.py     argument checks of the stages
    weights.py       weights of a mix as arguments: a list, a dict by name, or a schedule
    binding.py       methods that distinguish a call on the class from a call on a dataset
    mixing.py        arithmetic of a mix: which dataset provides the element at each index
    phases.py        arithmetic of a mix whose weights change: its phases in an epoch
    records.py       serialization of values
    record_files.py  numbered values in files that several processes read and write concurrently
    cache_counts.py  counters of a cache over all processes
    cache_folders.py segments of the caches in a folder, and their common bound
    caches.py        location of the cache files: a folder, or memory
    ids.py           ids of samples
    nodes.py         the stages of a dataset, as a tree of immutable descriptions
    part_names.py    the parts of the mixtures of a dataset, and the part of a sample by its id
    mixtures.py      the mixture of a dataset: find it, change its weights, count the samples of its parts
    fingerprint.py   a cache key of stages
    cached.py        the decorator `cached` of functions and methods
    applying.py      calls of a user function for a block of values
    depth.py         stack space for trees of many stages
    indexed.py       elements of indexed datasets, computed by index
    picking.py       readers of elements at other indices of their input
    blocks.py        shuffle(block=...)
    splitting.py     split
    held.py          the tokens of elements held by stages, in the format of snapshots
    stage_work.py    the time of a lane stage, and its search for elements
    user_calls.py    how a lane stage calls user code: random numbers, retry markers, errors
    gates.py         the samples that are excluded in the middle of an epoch of a lane
    stages.py        lane stages: blocks of elements with tokens, snapshots of positions
    ahead.py         the entry of a lane: reads ahead, and lets no excluded sample in
    applied.py       the base of lane stages that call a user function for each element
    merging.py       the base of lane stages that make an element of several
    threaded.py      map and filter with threads or coroutines
    mapping.py       map, filter
    columns.py       rename_columns, select_columns, remove_columns
    roots.py         the input of a lane: indices of an indexed dataset, or a source that is a stream
    flattening.py    flat_map
    state_codes.py   the state of a scan as integers
    scanning.py      scan, take_while
    buffers.py       shuffle(buffer=...)
    batching.py      batch
    window.py        window
    passes.py        stages that count elements: take, skip, enumerate, repeat
    keeping.py       cache
    joining.py       several inputs: zip, concatenate, mix
    rows.py          assignment of sequences to rows: best fit, or continuous text
    sequences.py     samples that are sequences, and rows built of their pieces
    packing.py       pack
    buckets.py       bucket
    finding.py       the sample with an id
    clocks.py        time measurements of the stages of an indexed dataset
    source.py        an indexed dataset as workers run it
    sorting.py       sort
    lane.py          a lane: iterates over the elements of its last stage
    opening.py       construction of lane stages from the description of a stream
    lane_ids.py      lanes that return the ids of the samples of each element
    as_source.py     the source of a dataset in a plan; conversion between stages and options
    rounds.py        iteration over a dataset in the calling process
    dataset.py       `Dataset`
"""
