"""Workers on other machines: a Ray cluster places and watches, order, retries and memory stay the pool's.

From the ground up; a module imports only from its own line and the lines above it::

    placement.py      which worker is on which node
    wire.py           the connection between the trainer and an agent: its first words, messages, and bytes
    mirror.py         the ring of an agent
    hosted.py         a worker of an agent
    agent.py          the agent of one node
    remote_worker.py  a worker on another node, as the pool has it
    relay.py          a link to one node, and the thread that carries what goes over it
    joining.py        the cluster that this process is part of, and its nodes
    agents.py         agents as Ray sees them
    links.py          all nodes: agents are started, connections accepted
    launcher.py       a launcher that has the nodes of a cluster
    backend.py        the backend of processes on the nodes of a cluster
"""
