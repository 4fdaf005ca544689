"""The parts of ``scripts/benchmark.py``.

From the bottom layer up; a module imports only from its own line and the lines above it::

    cells.py                    the statistic of all tables: medians, spreads and ratios of rates as shown
    workload.py                 a library with its package, and a workload with its libraries
    in_flight.py sizes.py       for peers without them: a limit of the batches ahead, endless epochs, sizes of batches
    floors.py                   limits of the machine, for comparison
    consuming.py                the consumer's view of a feed: its rate and its costs
    workloads/sources.py        endless sources of batches
    peers/                      the peers: a file for each library
    feeds.py                    all peers by name
    workloads/                  the workloads: a file for each family
    known.py                    all workloads by name
    quiet.py                    whether other programs use the machine
    measure.py                  one measurement in a new process
    results.py                  all results
    report.py                   the results, with the table of costs, as text or JSON
    rounds.py                   all measurements, in interleaved rounds
    options.py                  the command line, which needs no package
    command.py                  runs the command line

To add a peer, add a file to `peers`. To add a workload, add it to the table at the end of its file in `workloads`, or
add a file and its line in `known`.
"""
