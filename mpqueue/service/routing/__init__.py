"""Which consumer gets which batch; pure.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    routing.py batches, the seats of a group, and one routing class per mode
    modes.py   one class per server mode
    rules.py   checked options of a server
    core.py    decides which consumer is offered which batch; pure, simulated in the tests
"""
