"""The parts of ``scripts/benchmark.py``.

From the bottom layer up; a module imports only from its own line and the lines above it::

    cells.py                the statistic of all tables: medians, spreads and ratios of rates as shown
    in_flight.py sizes.py   for peers without them: a limit of the batches ahead, endless epochs, sizes of batches
    sources.py              the sources of the workloads, each a Sequence
    peers.py                the peers by name, with their requirements and best settings
    peers_standard.py peers_tensorflow.py peers_torch.py peers_keras.py peers_fifo.py    the feeds of the peers, and
    peers_grain.py peers_spdl.py peers_turboloader.py peers_dataloader_rs.py             more of them
    feeds.py                all feeds of mpqueue and the peers: streams of batches from a source
    workloads.py            the workloads by name, and the units of their rates
    shared_slots.py         shared memory that single processes write into
    floors.py               limits of the machine: copies in memory, and producers without a consumer
    footprint.py            CPU time and memory of this process and its descendants
    consuming.py            the consumer's view of a feed: its rate and its costs
    sample_sources.py       endless sources of samples
    samples.py              single samples that workers collate into batches
    streams.py              samples that are mapped, filtered, shuffled and batched
    queues.py               queues between processes
    tensorflow_records.py   the records read by TensorFlow; run by a separate interpreter
    records.py              files of records that are read and decoded
    tf1_scripts.py          input pipelines of TensorFlow 1; run by a separate interpreter, and by mpqueue
    tf1.py                  these scripts by name, and the programs that run them
    trainers.py             processes that take batches, and count them
    served.py               a server in a separate process, and its consumers
    file_sets.py            one set of JPEG files in every format
    peers_files.py          peers that read common file formats
    remote_files.py         the fraction of a slow link that remote files use
    files.py                common file formats: shuffled, decoded, and behind a slow link
    program_starts.py program_regions.py program_lengths.py program_shards.py   programs of other projects, and
    programs.py             their table
    service_attach.py       the time to a consumer's first batch
    service_peers.py        peers that serve several trainers
    service.py              one server for many trainers
    seen.py                 the cost of timing and traces
    balance.py              the work of simulated ranks, by division
    balance_training.py     two ranks that train, with and without a balance
    blocks.py               a shuffle by blocks of neighbours, from files
    sparse.py               cells x genes, as sparse, ragged and dense batches
    cache.py                decoded images that the ranks of a host keep
    ray_peers.py            peers that load batches on other nodes
    ray_workloads.py        batches that are computed on other nodes
    latency.py              the time to mpqueue's first batch
    starts.py               cold starts, compared with an interpreter that imports NumPy
    memory.py               mpqueue's memory in addition to its ring
    quiet.py                whether other programs use the machine
    measure.py              one measurement in a new process
    results.py              all measurements
    goals.py costs.py       targets other than ratios of rates; the table of costs
    report.py               the results as text or JSON
    targeted.py             the measurements with targets
    budget.py               the time limit of a run
    gather.py               collects the results of measurements
    rounds.py               all measurements, in interleaved rounds
    options.py              the command line, which needs no package
    command.py              runs the command line

To add a workload, a peer or a floor, add it to the table at the end of its file.
"""
