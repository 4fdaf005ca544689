"""`mpqueue bench`.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    measure.py measurements of a user's source with increasing numbers of workers and threads
    advice.py  recommends a setting, and names the remaining bottleneck
    report.py  formats the report
    ranks.py   compares the work of ranks with and without a balance
    bench.py   ``mpqueue bench``: measures how fast a user's source can be loaded, or compares ranks
"""
