"""Which consumer gets which batch; pure.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    seat_batches.py  what is routed: batches and exceptions
    routing.py  the seats of a group, and one routing class per mode
    modes.py    one class per server mode
    rules.py    checked options of a server
    outside.py  the actions that the core decides on
    holders.py  who holds the slots of batches
    recalls.py  recalls offers of idle consumers
    patience.py which consumers are detached: silent and slow ones, and after the loss of a rank
    core.py     decides which consumer is offered which batch; pure, simulated in the tests
"""
