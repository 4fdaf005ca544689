"""A cluster with ``RAY_USE_TLS=1``: batches from other nodes are encrypted, and unknown clients are disconnected.

Ray reads its certificates from the environment when it is imported, so the cluster runs in a separate program.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.ray_cluster import address_of_this_node

import mpqueue

_COMMAND = (
    "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -addext subjectAltName={names} "
    "-keyout {key} -out {certificate}"
)


def certificates(folder, *, name="node", addresses=("127.0.0.1",)):
    """Return Ray's environment variables for a new self-signed certificate."""
    key, certificate = str(folder / f"{name}-key.pem"), str(folder / f"{name}.pem")
    names = ",".join(["DNS:localhost", *(f"IP:{address}" for address in addresses)])
    command = _COMMAND.format(name=name, names=names, key=key, certificate=certificate)
    subprocess.run(command.split(), check=True, capture_output=True, timeout=60)
    return {
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_CERT": certificate,
        "RAY_TLS_SERVER_KEY": key,
        "RAY_TLS_CA_CERT": certificate,
    }


SCRIPT = """
import socket, ssl, sys
from helpers.footprint import owned_objects
from helpers.ray_cluster import RandomBatches, hash_of, on, started
from mpqueue import Loader
def connections(kind):
    return [item for item in owned_objects().values() if isinstance(item, kind)]
def is_dropped(client):
    client.settimeout(30)
    try:
        client.sendall(bytes(64))
        return client.recv(1) == b""
    except (ConnectionError, ssl.SSLError):
        return True
def is_rejected(address, *certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(*certificate)
    with socket.create_connection(address, 30) as plain:
        try:
            with context.wrap_socket(plain) as client:
                return is_dropped(client)
        except (ConnectionError, ssl.SSLError):
            return True
with started(num_nodes=2) as cluster:
    source = RandomBatches(length=60, size=100_000)
    options = {"seed": 7, "workers": 2, "max_queue_size": 4}
    with Loader(source, backend="ray", ray_options=on(cluster.others[0].node_id), **options) as loader:
        batches = iter(loader)
        received = [next(batches) for _ in range(5)]
        received = [(numbers.copy(), int(index), int(pid)) for numbers, index, pid in received]
        (encrypted,) = connections(ssl.SSLSocket)
        print("cipher", encrypted.cipher()[0], encrypted.getpeercert()["subject"][0][0][1])
        (address,) = [sock.getsockname() for sock in connections(socket.socket)
                      if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)]
        with socket.create_connection(address, 30) as client:
            print("plain", is_dropped(client))
        print("without", is_rejected(address))
        print("another", is_rejected(address, *sys.argv[1:]))
        received += [(numbers.copy(), int(index), int(pid)) for numbers, index, pid in batches]
        (node,) = loader.statistics().nodes
        print("node", node.workers, node.batches, node.deaths)
    print("same", hash_of(received) == hash_of(Loader(source, workers=0, seed=7)))
"""


@pytest.mark.slow
def test_batches_are_encrypted_and_clients_without_the_certificate_are_disconnected(tmp_path):
    addresses = {"127.0.0.1", address_of_this_node()}
    ours, others = (certificates(tmp_path, name=name, addresses=addresses) for name in ("node", "client"))
    paths = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(mpqueue.__file__).parents[1])])
    environ = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, others["RAY_TLS_SERVER_CERT"], others["RAY_TLS_SERVER_KEY"]],
        env=environ | ours | {"PYTHONPATH": paths},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    output = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert output["cipher"].endswith(" node")
    assert [output[client] for client in ("plain", "without", "another")] == ["True"] * 3
    assert output["node"] == "2 60 0"
    assert output["same"] == "True"
