"""Certificates for Ray's TLS connections, created with the OpenSSL command."""

import subprocess

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
