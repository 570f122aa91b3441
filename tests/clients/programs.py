"""The two programs under test, as processes: started on free ports, awaited by what they print, ended by their pid."""

import base64
import collections
import json
import os
import queue
import re
import signal
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

# Only a hang takes this long; nothing waits for it otherwise.
PATIENCE = 60

# What the stand-in calls the routes on which archives leave it.
ARCHIVE_ROUTES = ("job_archive", "ref_archive", "runner_archive", "web_download", "object")

# A line of larder's metrics.
ANSWERS = re.compile(r'^larder_requests_total\{route="(\w+)",outcome="(\w+)"\} (\d+)$', re.MULTILINE)

# The environment without proxies: every client of ours goes straight to loopback.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}

# Straight to loopback, whatever proxy the environment names.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def until(condition):
    """Asks again and again; what is asked is another process, so asking takes its time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE} s")


class Program:
    """A process whose output is read as it comes, so that it never waits for us."""

    def __init__(self, command, output, stdin=subprocess.DEVNULL, environment=ENVIRONMENT, inherited=()):
        pipes = {output: subprocess.PIPE, "stdin": stdin, "env": environment, "pass_fds": inherited}
        self.process = subprocess.Popen(command, text=True, encoding="utf-8", errors="replace", **pipes)
        self.lines = []
        self._arriving = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(getattr(self.process, output),), daemon=True)
        self._reader.start()

    def _read(self, stream):
        with stream:
            for line in stream:
                self.lines.append(line)
                self._arriving.put(line)
        self._arriving.put(None)

    def next_line(self):
        line = self._arriving.get(timeout=PATIENCE)
        if line is None:
            # It has ended for whoever asks next, too.
            self._arriving.put(None)
            raise AssertionError(f"{self.process.args[0]} ended: {''.join(self.lines)[-2000:]}")
        return line

    def stop(self):
        """Ends the process as a service manager would, and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self._reader.join(PATIENCE)
        return code


class StandIn(Program):
    """A GitLab with one private project, some jobs with archives, and a credential of each kind; and a job for each
    archive in `files`."""

    def __init__(self, storage, jobs, size, files=(), *options):
        command = [
            os.environ["STANDIN_PROGRAM"],
            "--fixture",
            f"--storage={storage}",
            f"--jobs={jobs}",
            f"--archive-size={size}",
            *(f"--archive={file}" for file in files),
            *options,
        ]
        super().__init__(command, "stdout")
        self.fixture = json.loads(self.next_line())
        self.url = self.fixture["url"]

    def counters(self):
        with DIRECT.open(f"{self.url}/standin/counters", timeout=PATIENCE) as answer:
            return json.load(answer)

    def archive_bytes(self):
        """Body bytes that left GitLab or its object store on the routes that lead to archives."""
        sent = self.counters()["body_bytes"]
        return sum(sent.get(route, 0) for route in ARCHIVE_ROUTES)


class Larder(Program):
    """larder in front of a GitLab, with `settings` by key."""

    def __init__(self, upstream, cache_dir, settings=None, log_level="trace"):
        command = [
            os.environ["LARDER_PROGRAM"],
            "serve",
            f"--upstream={upstream}",
            f"--cache-dir={cache_dir}",
            "--admin-listen=127.0.0.1:0",
            "--log-format=json",
            f"--log-level={log_level}",
        ]
        settings = {"server.listen": "127.0.0.1:0", **(settings or {})}
        own = {f"LARDER__{key.upper().replace('.', '__')}": value for key, value in settings.items()}
        super().__init__(command, "stderr", environment={**ENVIRONMENT, **own})
        # One line for each listener, in their order.
        addresses = [self._address("listening").removeprefix("plain:") for _ in settings["server.listen"].split(",")]
        self.url = f"http://{addresses[0]}"
        # With certificates the listeners but a `plain:` one speak TLS.
        self.tls_url = f"https://{addresses[-1]}"
        self.admin_url = f"http://{self._address('admin listening')}"

    def _address(self, message):
        while True:
            line = json.loads(self.next_line())
            if line["message"] == message:
                return line["address"]

    def settle(self):
        """Waits until no fill is under way: an archive is on the disk some moments after its last byte is out."""
        until(lambda: "\nlarder_fills_running 0\n" in self.metrics())

    def metrics(self):
        with DIRECT.open(f"{self.admin_url}/metrics", timeout=PATIENCE) as answer:
            return answer.read().decode()

    def peak_memory(self):
        """The most memory that it ever had, bytes: the kernel's word."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[1]) << 10

    def descriptors(self):
        """How many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def answers(self):
        """How many requests ended how, by route and outcome."""
        found = ANSWERS.findall(self.metrics())
        return collections.Counter({(route, outcome): int(count) for route, outcome, count in found})


class Dialogue(Program):
    """A client in another language: one line of JSON for a call, one line for what came of it."""

    def __init__(self, *command):
        super().__init__(command, "stdout", stdin=subprocess.PIPE)

    def call(self, method, *arguments):
        """A file's bytes, or what else the client made of the answer."""
        print(json.dumps([method, *arguments]), file=self.process.stdin, flush=True)
        answer = json.loads(self.next_line())
        return base64.b64decode(answer["base64"]) if "base64" in answer else answer

    def close(self):
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
