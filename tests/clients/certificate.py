"""A certificate for 127.0.0.1, made by openssl."""

import subprocess

from programs import PATIENCE

# Of the kind that every client takes.
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
NAMED = ("-subj", "/CN=larder", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2")


def make(directory):
    """Its file, which is its own authority's too, and its key's."""
    cert, key = directory / "tls.pem", directory / "tls.key"
    command = ["openssl", "req", "-x509", *KEY, *NAMED, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    return cert, key


def settings(directory):
    """What has larder listen without TLS and then with it, and the certificate."""
    cert, key = make(directory)
    listen = "plain:127.0.0.1:0,127.0.0.1:0"
    return {"server.listen": listen, "server.tls.cert": str(cert), "server.tls.key": str(key)}, cert
