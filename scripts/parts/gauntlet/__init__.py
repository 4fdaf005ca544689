"""The parts of ``scripts/gauntlet``: trainers that are killed and resumed, mpqueue's and its peers'.

From the ground up; a module imports only from its own line and the lines above it::

    pipeline.py      what every trainer is fed: two sets, a decoder, a filter, and where a trainer stands among others
    feed_mpqueue.py feed_grain.py feed_torchdata.py   this pipeline, as mpqueue and each peer has it: batches and
    feed_datasets.py feed_mosaicml.py feed_litdata.py   states; each is imported by a trainer that is fed by it, only
    trainer.py       a rank: takes batches, writes down what came, saves states; run by the peer's own interpreter
    peers.py         the entries by name: feed, packages, interpreter, and what their pipeline lacks
    verdict.py       what was lost, what came twice, and whether the order is that of an undisturbed run
    ranks.py         the ranks of one run: started, watched, killed
    scenarios.py     a run that is killed and resumed, beside an undisturbed one
    own.py           many random kills and resumes of mpqueue
    table.py         the table of docs/resume-comparison.md, and docs/gauntlet.json, which has its figures
    command.py       the program

A trainer imports nothing but `pipeline` and its feed: a peer's interpreter needs no mpqueue.
"""
