"""The parts of ``scripts/benchmark.py``.

From the ground up; a module imports only from its own line and the lines above it::

    in_flight.py sizes.py   for peers without them: a bound of the batches ahead, and the size of batches
    peers.py                the peers by name, with what each needs and its best settings
    peers_standard.py peers_tensorflow.py peers_torch.py peers_keras.py   the feeds of the peers, and
    peers_fifo.py peers_grain.py peers_ray.py peers_spdl.py               more of them
    feeds.py                every feed, mpqueue's and the peers': a stream of batches out of a source
    sources.py              what is produced: a Sequence each
    workloads.py            their names, and the unit of each rate
    shared_slots.py         shared memory that single processes write into
    floors.py               what the machine can do at best: a copy in memory, processes that produce into nothing
    footprint.py            CPU time and memory of this process and its descendants
    consuming.py            a feed as its consumer finds it: the rate and the costs
    samples.py              single samples that become batches in workers
    streams.py              samples that are mapped, filtered and shuffled on their way into batches
    shuffling.py            single elements that end in shuffled batches
    queues.py               queues between processes
    tensorflow_records.py   the records as TensorFlow reads them; run by its own interpreter
    records.py              files of records that are read and decoded
    tf1_scripts.py          pipelines of examples as TensorFlow 1 has them; run by its own interpreter, and by mpqueue
    tf1.py                  these scripts by name, and who runs them
    trainers.py             processes that take batches, and count them
    served.py               a server in a process of its own, and its consumers
    file_sets.py            one set of JPEG files in every format
    peers_files.py          those who also read files that people have
    file_cache.py           the second epoch from a cache on the disk
    remote_files.py         the share of a slow link that remote files use
    files.py                files that people have, shuffled; decoded; cached; behind a slow link
    files_page.py           the table of files in the documents
    service_attach.py service_idle.py   the time to a consumer's first batch; the cost of having nothing to do
    service_peers.py        those who also serve several trainers
    service.py              one preparation for many trainers
    seen.py                 the cost of times, a trace and the monitor
    ray_peers.py            those who also bring batches from another node
    ray_workloads.py        batches that are computed on other nodes
    waiting.py              threads in workers beside torch's processes, for samples that wait; run by itself
    latency.py              the time to mpqueue's first batch
starts.py               cold starts, beside an interpreter that imports NumPy
    wakeup.py               the time from a batch that is done to the consumer that waits for it
    memory.py               mpqueue's memory beyond its ring
    growth.py               CPU time and bytes at sizes a decade apart, with exponents
    measure.py              one measurement, made in a fresh process
    results.py              all that was measured: medians, spreads, ratios
    goals.py costs.py       the figures to reach beside ratios of rates; the table of costs
    report.py               the results as text, Markdown or JSON
    plots.py                the results as pictures
    wanted.py               the measurements that a figure to be reached needs
budget.py               the time that a run may take
joining.py              parts of a run that become one
gather.py               collects the findings of measurements
    rounds.py               all measurements, in rounds that take turns
    options.py              the command line, which needs no package
    command.py              what is done about the command line

To add a workload, a peer or a floor, add it to the table at the end of its file.
"""
