"""`Dataset`: descriptions of samples, and what computes them: elements by their place, or streams in lanes.

From the ground up; a module imports only from its own line and the lines above it::

    arguments.py    checks of the arguments of stages
    binding.py      methods that distinguish a call on the class from a call on a dataset
    mixing.py       the arithmetic of a mix: which dataset each place takes its element from
    records.py      a value as bytes, and back
    record_files.py values by their numbers in two files, which any processes read and write at once
    caches.py       where those files are: in a folder, or in memory
    nodes.py        the stages of a dataset, as a tree of immutable descriptions
    fingerprint.py  a key of stages, for what is kept of them
    applying.py     a function called for each of some values
    depth.py        room on Python's stack for trees of many stages
    indexed.py      elements of indexed datasets, computed by their places
    clocks.py       the work of the stages of an indexed dataset, noted while a batch is timed
    source.py       what workers run: an indexed dataset
    held.py         tokens of what stages hold, as a snapshot has them
    stages.py       what a stage of a lane is: blocks of elements with tokens, snapshots of positions; map, filter
    threaded.py     map and filter whose function is called in threads
    roots.py        where a lane's elements come from: places of an indexed dataset, a source that is a stream
    flattening.py   what a function makes of each element, item by item
    buffers.py      a buffer of elements of which the next one is picked
    ahead.py        elements that cost little, taken in large blocks
    batching.py     so many elements as one
    passes.py       stages that count elements: take, skip, enumerate, repeat
    keeping.py      elements that are computed once, and kept
    joining.py      several inputs as one: zip, concatenate, mix
    lane.py         a lane: its last stage, asked for one element after the other
    rows.py         which row a sequence goes into: best fit, running text
    sequences.py    samples that are sequences, and the row that pieces of them make
    packing.py      the stage `pack`
    buckets.py      the stage `bucket`
    opening.py      from the description of a stream to the stages of its lanes
    as_source.py    the source of a dataset in a plan, and its last stages as options
    rounds.py       a dataset that is computed here: the elements of a stream come round the lanes
    dataset.py      `Dataset`
"""
