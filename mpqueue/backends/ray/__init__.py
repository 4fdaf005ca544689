"""Workers on other machines: Ray places and monitors them; order, retries and memory remain with the pool.

Each module imports only from the modules above it::

    placement.py     assigns workers to nodes
    wire.py          the connection between the trainer and an agent: handshake, messages and bytes
    mirror.py        the ring of an agent
    hosted.py        a worker of an agent
    agent.py         the agent of one node
    remote_worker.py a worker on another node, as seen by the pool
    relay.py         a link to one node, and the thread that carries its messages
    connect.py       the cluster of this process, and its nodes
    agents.py        agents as Ray actors
    links.py         all nodes: starts agents and accepts connections
    launcher.py      a launcher for the nodes of a cluster
    backend.py       the backend of processes on the nodes of a cluster
"""
