"""How worker processes start: fork server, fork, spawn.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    fork_server_messages.py messages between trainer and fork server
    entry_code.py           command lines of the interpreters that become a fork server or a worker
    fork_server.py          the clean process that forks workers
    launcher.py             the protocol of launchers, and the trainer's end of a fork server
    forker.py               workers forked from the trainer
"""
