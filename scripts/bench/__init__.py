"""What `scripts/benchmark.py` is made of, from the ground up.

    workloads.py   what is produced: a Sequence each, and the unit in which its rate is told
    feeds.py       who produces it: mpqueue and its peers, each a stream of batches out of a workload
    floors.py      what the machine can do at best: a copy in memory, processes that produce and throw away
    queues.py      queues between processes
    records.py     files of records that are read and decoded, and
    tensorflow_records.py   what TensorFlow makes of them
    latency.py     how soon mpqueue's first batch comes
    measure.py     one measurement, made in a fresh process of its own
    rounds.py      all measurements, in rounds that take turns
    report.py      medians, spreads, ratios, and what they should be
    command.py     the command line

To add a workload, a peer or a floor, add it to the table at the end of its file.
"""
