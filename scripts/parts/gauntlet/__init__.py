"""The parts of ``scripts/gauntlet``: trainers of mpqueue and its peers that are killed and resumed.

From the bottom layer up; a module imports only from its own line and the lines above it::

    pipeline.py      the pipeline of every trainer: two sets, a decoder, a filter, and the rank of the trainer
    feed_mpqueue.py feed_grain.py feed_torchdata.py   this pipeline in mpqueue and in each peer: batches and
    feed_datasets.py feed_mosaicml.py feed_litdata.py   states; a trainer imports only its own one
    trainer.py       a rank: takes batches, logs them, saves states; runs in the peer's interpreter
    peers.py         the entries by name: feed, packages, interpreter, and missing parts of the pipeline
    verdict.py       lost samples, repeated samples, and their order
    ranks.py         the ranks of one run: started, watched, killed
    scenarios.py     a killed and resumed run, compared with an uninterrupted one
    table.py         the table of docs/internals/benchmarks.md, and their data in docs/data/gauntlet.json
    command.py       the program

A trainer imports only `pipeline` and its feed, because a peer's interpreter does not have mpqueue.
"""
