"""The parts of ``scripts/pictures``: the documentation's pictures of data as SVG, readable in light and dark mode.

From the bottom layer up; a module imports only from its own line and the lines above it::

    front_page.py              the table of the front page
    measured.py                the figures of the benchmarks, and their tables
    bars.py                    rates of mpqueue and its peers, in the colours of both modes
    balance_tables.py          the work of ranks, with and without a balance
    command.py                 writes all of them

The other pictures of ``docs/pictures`` are edited by hand.
"""
