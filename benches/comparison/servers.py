"""What is compared, as processes on loopback: a GitLab to be in front of, and those who stand in front of it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

# A server that doesn't answer within this time never will.
PATIENCE = 60
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# Neither writes a line a request unless asked to; with --logs both do, to a file.
NGINX = """
daemon off;
worker_processes {workers};
pid {home}/nginx.pid;
error_log {home}/error.log error;
{user}
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
    access_log {access_log};
    sendfile on;
    tcp_nodelay on;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    default_type application/octet-stream;
    client_body_temp_path {home}/client-body;
    proxy_temp_path {home}/temp;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    proxy_cache_path {home}/cache levels=1:2 keys_zone=archives:16m max_size=16g inactive=1d use_temp_path=off;
    upstream gitlab {{ server {upstream}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port} backlog=1024{tls};
        location / {{ {location} }}
    }}
}}
"""

# What passes does so with nginx's own defaults for buffering.
PASSING = """
            proxy_pass http://gitlab;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
"""
CACHING = (
    PASSING
    + """
            proxy_cache archives;
            proxy_cache_key $uri;
            proxy_cache_valid 200 1d;
            proxy_cache_lock on;
            proxy_ignore_headers Cache-Control Expires Set-Cookie Vary X-Accel-Expires;
            add_header X-Cache $upstream_cache_status;
"""
)
SERVING = """
            root {home}/files;
"""

VCL = """
vcl 4.1;
backend gitlab {{ .host = "{host}"; .port = "{port}"; }}
sub vcl_recv {{ return (hash); }}
sub vcl_hash {{ hash_data(req.url); return (lookup); }}
sub vcl_backend_response {{
    unset beresp.http.Set-Cookie;
    set beresp.uncacheable = false;
    set beresp.ttl = 1d;
    return (deliver);
}}
"""


def free_port():
    """A port that nobody has now; the next moment somebody might, and then the server says so."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A process and those it starts. Left alone it costs nothing; its processor time is read from /proc."""

    def __init__(self, name, command, home, output=None, environment=None):
        self.name = name
        self.home = home
        self.errors = open(Path(home, "output.log"), "w", encoding="utf-8")
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output or self.errors,
            stderr=self.errors,
            text=True,
            env=os.environ | (environment or {}),
        )

    def await_port(self, port):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return self
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"{self.name} doesn't answer: {Path(self.home, 'output.log').read_text()[-2000:]}")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.errors.close()

    def settle(self):
        """Waits for work that goes on after an answer."""

    def processor_seconds(self):
        """User and system time of the process and its children."""
        ticks = sum(_ticks(pid) for pid in _family(self.process.pid))
        return ticks / os.sysconf("SC_CLK_TCK")


def _family(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid] + [one for child in children for one in _family(int(child))]


def _ticks(pid):
    # The name, in parentheses, may hold anything; user and system time are the 14th and 15th field.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


class StandIn(Server):
    """GitLab, with jobs whose archives all have one size."""

    def __init__(self, home, size, jobs):
        command = [os.environ["STANDIN_PROGRAM"], "--fixture", "--storage=local"]
        super().__init__("stand-in", command + [f"--archive-size={size}", f"--jobs={jobs}"], home, subprocess.PIPE)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the stand-in ended: {Path(home, 'output.log').read_text()}")
        fixture = json.loads(line)
        self.url = fixture["url"]
        self.address = self.url.removeprefix("http://")
        self.jobs = fixture["jobs"]
        # One file of an archive of several, deflated there: such as a report that many jobs read.
        self.file = {"path": f"{fixture['site']['path']}/tests.txt", "size": 4096}
        self.credential = f"PRIVATE-TOKEN: {fixture['personal_token']}"


class Larder(Server):
    """larder, which looks a grant up for each request; GitLab's yes holds for an hour, so the load asks GitLab once."""

    def __init__(self, home, gitlab, read, logs, certificate=None):
        port, self.admin = free_port(), free_port()
        command = [
            os.environ["LARDER_PROGRAM"],
            "serve",
            f"--upstream={gitlab.url}",
            f"--listen=127.0.0.1:{port}",
            f"--admin-listen=127.0.0.1:{self.admin}",
            f"--cache-dir={home}/cache",
            "--cache-size=16GiB",
            "--ttl=1h",
            "--log-format=json",
            f"--log-level={'info' if logs else 'warn'}",
        ]
        environment = {"LARDER__CACHE__READ": read}
        if certificate:
            environment["LARDER__SERVER__TLS__CERT"] = certificate.chain
            environment["LARDER__SERVER__TLS__KEY"] = certificate.key
        super().__init__(f"larder ({read})", command, home, environment=environment)
        self.url = f"{scheme(certificate)}://127.0.0.1:{port}"
        self.await_port(port)

    def settle(self):
        """An archive is on the disk some moments after its last byte is out."""
        while True:
            with DIRECT.open(f"http://127.0.0.1:{self.admin}/metrics", timeout=PATIENCE) as page:
                if "\nlarder_fills_running 0\n" in page.read().decode():
                    return
            time.sleep(0.01)


class Certificate:
    """A certificate for loopback that nobody trusts; P-256, as most have."""

    def __init__(self, home):
        self.chain, self.key = f"{home}/chain.pem", f"{home}/key.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        command += ["-keyout", self.key, "-out", self.chain]
        subprocess.run(command, check=True, capture_output=True)


def scheme(certificate):
    """What an address begins with."""
    return "https" if certificate else "http"


class Nginx(Server):
    """nginx: with proxy_cache, which asks nobody about access; as a proxy of what passes; or serving files."""

    def __init__(self, home, upstream, logs=False, location=CACHING, certificate=None, name="nginx"):
        port = free_port()
        tls = ""
        if certificate:
            tls = f" ssl; ssl_certificate {certificate.chain}; ssl_certificate_key {certificate.key}"
        config = NGINX.format(
            home=home,
            workers=os.cpu_count(),
            user="user root;" if os.geteuid() == 0 else "",
            access_log=f"{home}/access.log" if logs else "off",
            upstream=upstream,
            port=port,
            tls=tls,
            location=location.format(home=home),
        )
        path = Path(home, "nginx.conf")
        path.write_text(config, encoding="utf-8")
        super().__init__(name, ["nginx", "-p", home, "-c", str(path)], home)
        self.address = f"127.0.0.1:{port}"
        self.url = f"{scheme(certificate)}://{self.address}"
        self.await_port(port)


class Files(Nginx):
    """A GitLab of which only speed is asked: nginx with one file."""

    def __init__(self, home, size):
        path = Path(home, "files", "file")
        path.parent.mkdir()
        path.write_bytes(os.urandom(size))
        super().__init__(home, "127.0.0.1:9", location=SERVING, name="GitLab")


class Varnish(Server):
    """Varnish with everything in memory, which asks nobody about access."""

    def __init__(self, home, gitlab):
        port = free_port()
        host, _, upstream = gitlab.address.partition(":")
        path = Path(home, "cache.vcl")
        path.write_text(VCL.format(host=host, port=upstream), encoding="utf-8")
        listen = ["-a", f"127.0.0.1:{port}", "-T", "none", "-s", "malloc,2g"]
        command = ["varnishd", "-F", "-j", "none", "-n", f"{home}/varnish", *listen, "-f", str(path)]
        super().__init__("Varnish", command, home)
        self.url = f"http://127.0.0.1:{port}"
        self.await_port(port)


def has_varnish():
    """Varnish compiles its configuration, so it needs a compiler besides itself."""
    return bool(shutil.which("varnishd")) and any(shutil.which(cc) for cc in ("cc", "gcc"))


def versions():
    """One line on what ran where."""
    first = {
        "nginx": subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False).stderr,
        "wrk": subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout,
        "larder": subprocess.run(
            [os.environ["LARDER_PROGRAM"], "--version"], capture_output=True, text=True, check=False
        ).stdout,
    }
    if has_varnish():
        first["varnish"] = subprocess.run(["varnishd", "-V"], capture_output=True, text=True, check=False).stderr
    lines = [text.strip().splitlines()[0].partition(" [")[0] for text in first.values() if text.strip()]
    return f"{os.cpu_count()} cores, Linux {os.uname().release}; " + "; ".join(lines)
