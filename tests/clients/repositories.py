"""A test class with repositories on a server, asked straight, through larder, and by TLS and HTTP/2."""

import contextlib
import subprocess
import tempfile
import unittest
from pathlib import Path

import certificate
from backend import TOKEN, USER, Backend
from programs import ENVIRONMENT, PATIENCE, Larder

COMMITS = 400


class Repositories(unittest.TestCase):
    """Starts server and larder once for its tests and ends them after the last."""

    @classmethod
    def setUpClass(cls):
        with contextlib.ExitStack() as starting:
            cls.cache = starting.enter_context(tempfile.TemporaryDirectory(prefix="larder-clients-"))
            cls.scratch = Path(starting.enter_context(tempfile.TemporaryDirectory(prefix="larder-git-")))
            cls.root = cls.scratch / "served"
            cls.backend = Backend(cls.root)
            starting.callback(cls.backend.stop)
            settings, cls.cert = certificate.settings(cls.scratch)
            cls.larder = Larder(cls.backend.url, cls.cache, settings)
            starting.callback(cls.larder.stop)
            cls.ways = {"straight": cls.backend.url, "larder": cls.larder.url, "http2": cls.larder.tls_url}
            cls.seed()
            cls.started = starting.pop_all()

    @classmethod
    def tearDownClass(cls):
        cls.started.close()

    @classmethod
    def seed(cls):
        """A repository of some commits, each with a branch: what a client has doesn't fit a request of 1 KiB."""
        cls.seeded = cls.scratch / "seed.git"
        cls.at("git", "init", "--quiet", "--bare", cls.seeded)
        history = "".join(cls.commit(number) for number in range(COMMITS))
        cls.at("git", "-C", cls.seeded, "fast-import", "--quiet", stdin=history)
        cls.at("git", "-C", cls.seeded, "symbolic-ref", "HEAD", "refs/heads/main")

    @staticmethod
    def commit(number):
        """As `git fast-import` reads it."""
        text = f"line {number}\n" * 50
        who = f"committer Somebody <somebody@example.com> {1_700_000_000 + number} +0000"
        file = f"M 100644 inline file-{number % 40}\ndata {len(text)}\n{text}\n"
        parent = "" if number else "reset refs/heads/main\n"
        branch = f"reset refs/heads/branch-{number}\nfrom refs/heads/main\n\n"
        return f"{parent}commit refs/heads/main\n{who}\ndata 4\ntext\n{file}\n{branch}"

    @classmethod
    def at(cls, *command, stdin=None, fails=False):
        environment = {
            **ENVIRONMENT,
            "LC_ALL": "C",
            "HOME": str(cls.scratch),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_SSL_CAINFO": str(cls.cert),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_AUTHOR_NAME": "Somebody",
            "GIT_AUTHOR_EMAIL": "somebody@example.com",
            "GIT_COMMITTER_NAME": "Somebody",
            "GIT_COMMITTER_EMAIL": "somebody@example.com",
        }
        line = [str(word) for word in command]
        ran = subprocess.run(
            line, input=stdin, env=environment, capture_output=True, text=True, timeout=PATIENCE * 5
        )
        if (ran.returncode != 0) != fails:
            raise AssertionError(f"{' '.join(line)} ended with {ran.returncode}: {ran.stderr[-2000:]}")
        return ran

    def served(self, name):
        """A copy of the seed that the server has, in whose place any other of the name goes."""
        repository = self.root / "group" / f"{name}.git"
        self.at("rm", "-rf", repository)
        self.at("git", "clone", "--quiet", "--mirror", self.seeded, repository)
        return repository

    def url(self, way, name, password=TOKEN):
        """As a job's script has it."""
        scheme, _, address = self.ways[way].partition("://")
        return f"{scheme}://{USER}:{password}@{address}/group/{name}.git"

    def git(self, way, *arguments, fails=False):
        http2 = ("-c", "http.version=HTTP/2") if way == "http2" else ()
        return self.at("git", *http2, *arguments, fails=fails)
