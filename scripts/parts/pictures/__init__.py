"""The parts of ``scripts/pictures``: the documentation's pictures as SVG, readable in light and dark mode.

From the bottom layer up; a module imports only from its own line and the lines above it::

    svg.py                     a picture: boxes, arrows, words, and the colours of both modes
    ring.py slots.py           the slots of a ring; the states of a slot
    sequence.py                messages between processes, from top to bottom
    processes.py starting.py dying.py   the pipeline; the start of a pool; a worker crash
    service.py cluster.py      a server and its consumers; a trainer and its nodes
    wings.py                   the folders of the package and their imports
    measured.py                the figures of the benchmarks, and their tables
    options_table.py           the table of options
    bars.py                    rates of mpqueue and its peers
    rewind.py                  the loss of a training that was repaired
    command.py                 writes all of them
"""
