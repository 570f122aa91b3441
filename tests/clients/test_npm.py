"""npm publishes to a registry behind larder and installs from it: a small stand-in of GitLab's (`lib/api/npm_project_packages.rb`)."""

import base64
import contextlib
import http.server
import json
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path

from programs import ENVIRONMENT, PATIENCE, Larder

TOKEN = "glpat-npm"
REGISTRY = "/api/v4/projects/1/packages/npm/"


class _Registry(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b"", kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        packument = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self.answer(401, b"{}")
        for name, attachment in packument.pop("_attachments").items():
            self.server.files[name] = base64.b64decode(attachment["data"])
        self.server.packages[packument["name"]] = packument
        return self.answer(200, b"{}")

    def do_GET(self):
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self.answer(401, b"{}")
        name = self.path.removeprefix(REGISTRY)
        if name in self.server.packages:
            packument = self.server.packages[name]
            for version in packument["versions"].values():
                # As GitLab does, under the name that it was asked by.
                host = self.headers.get("X-Forwarded-Host", self.headers["Host"])
                file = f"{packument['name']}-{version['version']}.tgz"
                version["dist"]["tarball"] = f"http://{host}{REGISTRY}{name}/-/{file}"
            return self.answer(200, json.dumps(packument).encode())
        file = self.server.files.get(name.rpartition("/")[2])
        return self.answer(200, file, "application/octet-stream") if file else self.answer(404, b"{}")

    def log_message(self, *_):
        pass


class Npm(unittest.TestCase):
    def test_a_package_is_published_and_installed(self):
        with contextlib.ExitStack() as stack:
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Registry)
            server.packages, server.files = {}, {}
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            stack.callback(lambda: (server.shutdown(), thread.join(), server.server_close()))
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            larder = Larder(f"http://127.0.0.1:{server.server_port}", str(scratch / "cache"))
            stack.callback(larder.stop)
            address = larder.url.partition("://")[2]
            rc = scratch / "npmrc"
            rc.write_text(f"registry={larder.url}{REGISTRY}\n//{address}{REGISTRY}:_authToken={TOKEN}\n")
            own = {**ENVIRONMENT, "HOME": str(scratch), "NPM_CONFIG_USERCONFIG": str(rc)}

            def npm(directory, *words):
                quiet = ("--no-audit", "--no-fund", "--no-update-notifier", "--ignore-scripts")
                command = ["npm", *words, *quiet]
                ran = subprocess.run(
                    command, cwd=directory, env=own, capture_output=True, text=True, timeout=PATIENCE * 2
                )
                self.assertEqual(ran.returncode, 0, ran.stderr)

            made, user = scratch / "made", scratch / "user"
            for directory in (made, user):
                directory.mkdir()
            (made / "package.json").write_text('{"name": "larder-made", "version": "1.2.3"}')
            (made / "index.js").write_text("// some\n" * 10_000)
            npm(made, "publish")
            (user / "package.json").write_text('{"name": "user", "version": "1.0.0"}')
            npm(user, "install", "larder-made")
            installed = user / "node_modules" / "larder-made" / "index.js"
            self.assertEqual(installed.read_text(), (made / "index.js").read_text())
