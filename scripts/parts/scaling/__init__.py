"""The parts of ``scripts/scaling``.

From the ground up; a module imports only from its own line and the lines above it::

    cluster.py      what is simulated: nodes, links, batches, and what they cost
    layouts.py      which workers feed which trainer
    paper.py        the model on paper: what each resource would allow by itself
    clock.py        simulated time, and what serves one after the other
    ring.py         real slots without memory
    nodes.py        the way of a batch from node to node
    workers.py      simulated workers behind real pipes
    trainer.py      a trainer: the real ledger, dispatcher and slots
    simulation.py   all of them together, until they run evenly
    costs.py        what a batch costs a trainer on this machine
    served.py       what one trainer can serve, by the number of its workers
    table.py        the table of the guide, whose figures are in figures.json
    command.py      the command line
"""
