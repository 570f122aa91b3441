"""nginx, with servers of our own."""

import contextlib
import os
import shutil
import socket

from programs import ENVIRONMENT, Program

# Debian keeps it where not everybody looks.
PROGRAM = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")

# Started as root it would become somebody who can't read our directories.
USER = "user root;" if os.geteuid() == 0 else ""

CONFIGURATION = """
daemon off;
{user}
pid {directory}/nginx.pid;
error_log stderr warn;
events {{}}
http {{
    access_log off;
    default_type application/octet-stream;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {servers}
}}
"""


class Nginx(Program):
    """Each server gets a free port, as a socket that is there before nginx is: nobody else can take it, and
    whoever connects early waits in its queue."""

    def __init__(self, directory, servers, besides=""):
        with contextlib.ExitStack() as ours:
            sockets = [ours.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in servers]
            ports = [one.getsockname()[1] for one in sockets]
            self.urls = [f"http://127.0.0.1:{port}" for port in ports]
            blocks = [
                f"server {{ listen 127.0.0.1:{port};\n{block} }}" for port, block in zip(ports, servers)
            ]
            file = directory / "nginx.conf"
            parts = {"directory": directory, "user": USER, "servers": besides + "\n".join(blocks)}
            file.write_text(CONFIGURATION.format(**parts))
            handles = [one.fileno() for one in sockets]
            # What it hands to its successor when it is replaced while it runs.
            environment = {**ENVIRONMENT, "NGINX": "".join(f"{handle};" for handle in handles)}
            command = (PROGRAM, "-c", str(file), "-e", "stderr")
            super().__init__(command, "stderr", environment=environment, inherited=handles)
