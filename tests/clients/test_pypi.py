"""twine publishes to a package index behind larder and pip installs from it: a small stand-in of GitLab's
(`lib/api/pypi_packages.rb`)."""

import base64
import contextlib
import email.parser
import email.policy
import http.server
import subprocess
import sys
import tempfile
import threading
import unittest
import zipfile
from pathlib import Path

from programs import ENVIRONMENT, PATIENCE, Larder

USER, TOKEN = "gitlab-ci-token", "glcbt-64-jobtoken"
INDEX = "/api/v4/projects/1/packages/pypi"


class _Index(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b"", kind="text/html"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="GitLab Packages Registry"')
        self.end_headers()
        self.wfile.write(body)

    def is_let_in(self):
        basic = base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()
        return self.headers["Authorization"] == f"Basic {basic}"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.is_let_in():
            return self.answer(401)
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        for part in form.iter_parts():
            if part.get_filename():
                self.server.files[part.get_filename()] = part.get_payload(decode=True)
        return self.answer(201)

    def do_GET(self):
        if not self.is_let_in():
            return self.answer(401)
        if self.path.startswith(f"{INDEX}/simple/"):
            links = "".join(f'<a href="{INDEX}/files/{name}">{name}</a>' for name in self.server.files)
            return self.answer(200, f"<!DOCTYPE html><html><body>{links}</body></html>".encode())
        file = self.server.files.get(self.path.rpartition("/")[2])
        return self.answer(200, file, "application/octet-stream") if file else self.answer(404)

    def log_message(self, *_):
        pass


def wheel(directory):
    """A package of one module, as PEP 427 has it."""
    path = directory / "larder_made-1.2.3-py3-none-any.whl"
    info = "larder_made-1.2.3.dist-info"
    files = {
        "larder_made.py": "ANSWER = 42\n" * 10_000,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: larder-made\nVersion: 1.2.3\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    return path


class PyPi(unittest.TestCase):
    def test_a_package_is_uploaded_and_installed(self):
        with contextlib.ExitStack() as stack:
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Index)
            server.files = {}
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            stack.callback(lambda: (server.shutdown(), thread.join(), server.server_close()))
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            larder = Larder(f"http://127.0.0.1:{server.server_port}", str(scratch / "cache"))
            stack.callback(larder.stop)
            own = {**ENVIRONMENT, "HOME": str(scratch), "PIP_CONFIG_FILE": "/dev/null"}

            def python(*words):
                command = [sys.executable, "-m", *map(str, words)]
                ran = subprocess.run(command, env=own, capture_output=True, text=True, timeout=PATIENCE * 2)
                self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)

            upload = ("--username", USER, "--password", TOKEN, "--repository-url", larder.url + INDEX)
            python("twine", "upload", "--non-interactive", "--disable-progress-bar", *upload, wheel(scratch))
            address = larder.url.partition("://")[2]
            index = f"http://{USER}:{TOKEN}@{address}{INDEX}/simple"
            quiet = ("--quiet", "--no-cache-dir", "--disable-pip-version-check", "--no-deps")
            python("pip", "install", *quiet, "--index-url", index, "--target", scratch / "there", "larder-made")
            self.assertIn("ANSWER = 42", (scratch / "there" / "larder_made.py").read_text())
