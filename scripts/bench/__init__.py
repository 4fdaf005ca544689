"""What `scripts/benchmark.py` is made of, from the ground up.

    in_flight.py, sizes.py   what peers that lack it are given: a bound of what is under way; how large batches are
    sources.py     what is produced: a Sequence each
    workloads.py   their names, and the unit in which the rate of each is told
    peers.py       the peers by name, what each needs and its best settings; their feeds are in peers_*.py
    feeds.py       who produces it: mpqueue and its peers, each a stream of batches out of a workload
    shared_slots.py   shared memory that lone processes write into, for
    floors.py      what the machine can do at best: a copy in memory, processes that produce and throw away, or keep
    footprint.py   CPU time and memory of this process and its descendants
    consuming.py   a feed as its consumer finds it: the rate, and what it costs
    queues.py      queues between processes, and
    shuffling.py   single elements that end in shuffled batches
    records.py     files of records that are read and decoded, and
    tensorflow_records.py   what TensorFlow makes of them
    latency.py     how soon mpqueue's first batch comes
    wakeup.py      how soon a consumer that waits has a batch
    memory.py      what mpqueue needs beyond its ring
    growing.py     one point of a curve, and
    curves.py      the curves: how mpqueue grows with sizes, lengths and numbers
    measure.py     one measurement, made in a fresh process of its own
    gather.py      what the measurements have found
    rounds.py      all measurements, in rounds that take turns
    goals.py       what is to be reached beside ratios of rates
    costs.py       the table of costs
    report.py      medians, spreads, ratios, and what they should be
    plots.py       the same as pictures
    options.py     the command line, and
    command.py     what is done about it

To add a workload, a peer, a floor or a curve, add it to the table at the end of its file.
"""
