"""git over HTTP, which larder only passes through: what git does behind it is what git does straight."""

import os
import re
import tempfile
from pathlib import Path

import curl
from programs import PATIENCE
from repositories import COMMITS, Repositories

# What a push of one file carries. Straight or through larder 1 GiB takes git half a minute.
BIG = int(os.environ.get("LARDER_TEST_PUSH_MIB", "256")) << 20

# Most memory that an unoptimised larder, with TLS and all that it logs, may ever have had.
MOST = 60 << 20

# git sends no more than 1 MiB at once, and in chunks beyond.
LONG = 4 << 20


class Git(Repositories):
    def each_way(self, act):
        """Does it on a new copy of the repository and in a new directory, and compares what came of it, and what the
        server was asked, with what it is straight."""
        straight = None
        for way in self.ways:
            with self.subTest(way=way), tempfile.TemporaryDirectory(dir=self.scratch) as directory:
                repository = self.served("project")
                self.backend.take_seen()
                came = act(way, repository, Path(directory))
                asked = [(one.request, one.status, one.coding, one.protocol) for one in self.backend.take_seen()]
                straight = straight or (came, asked)
                self.assertEqual((came, asked), straight)

    def contents(self, clone):
        """What is there, each object of it looked at."""
        self.at("git", "-C", clone, "fsck", "--full", "--strict")
        refs = self.at("git", "-C", clone, "for-each-ref").stdout
        shallow = clone / ".git" / "shallow"
        cut = sorted(shallow.read_text().split()) if shallow.exists() else []
        return refs, self.at("git", "-C", clone, "rev-list", "--all", "--count").stdout, cut

    def test_a_clone_is_the_same_in_each_version_of_the_protocol(self):
        for version in (0, 1, 2):

            def clone(way, _, directory, version=version):
                spoken = ("-c", f"protocol.version={version}")
                self.git(way, *spoken, "clone", "--quiet", self.url(way, "project"), directory / "clone")
                return self.contents(directory / "clone")

            with self.subTest(version=version):
                self.each_way(clone)

    def test_git_speaks_http2_to_larder(self):
        self.served("project")
        http2 = ("git", "-c", "http.version=HTTP/2", "ls-remote", self.url("http2", "project"))
        ran = self.at("env", "GIT_CURL_VERBOSE=1", *http2)
        self.assertIn("HTTP/2 200", ran.stderr)
        self.assertEqual(len(ran.stdout.splitlines()), COMMITS + 2)

    def test_a_fetch_sends_what_it_has_compressed(self):
        def fetch(way, repository, directory):
            clone = directory / "clone"
            self.git(way, "clone", "--quiet", self.url(way, "project"), clone)
            # A history of its own, beside the other one.
            more = self.commit(0).replace("refs/heads/", "refs/heads/more-")
            self.at("git", "-C", repository, "fast-import", "--quiet", stdin=more)
            self.git(way, "-C", clone, "fetch", "--quiet", "origin")
            self.assertIn("gzip", [one.coding for one in self.backend.seen])
            return self.contents(clone)

        self.each_way(fetch)

    def test_a_shallow_clone_is_deepened(self):
        def deepen(way, _, directory):
            clone = directory / "clone"
            self.git(way, "clone", "--quiet", "--depth=1", self.url(way, "project"), clone)
            states = [self.contents(clone)]
            for more in ("--deepen=10", "--shallow-since=2023-11-14T22:14:00Z", "--unshallow"):
                self.git(way, "-C", clone, "fetch", "--quiet", more)
                states.append(self.contents(clone))
            return states

        self.each_way(deepen)

    def work(self, directory, size):
        """A clone of the seed with one more commit, of a file that no compression makes shorter."""
        clone = directory / "work"
        self.at("git", "clone", "--quiet", self.seeded, clone)
        for key, value in (("core.compression", "0"), ("core.bigFileThreshold", "1m"), ("gc.auto", "0")):
            self.at("git", "-C", clone, "config", key, value)
        with (clone / "noise").open("wb") as file:
            for _ in range(size >> 20):
                file.write(os.urandom(1 << 20))
        self.at("git", "-C", clone, "add", "noise")
        self.at("git", "-C", clone, "commit", "--quiet", "--message=noise")
        return clone

    def test_a_push_of_any_size_arrives_in_constant_memory(self):
        with tempfile.TemporaryDirectory(dir=self.scratch) as directory:
            # What doesn't fit a request at once, and what would fill memory.
            for size, ways in ((0, self.ways), (LONG, self.ways), (BIG // 4, ["http2"]), (BIG, ["larder"])):
                clone = self.work(Path(directory, str(size)), size)
                for way in ways:
                    with self.subTest(way=way, size=size):
                        self.push(way, clone, size)

    def push(self, way, clone, size):
        repository = self.served("pushed")
        self.backend.take_seen()
        # By HTTP/2, git and libcurl 7.88 sometimes wait for each other for ever at the end of a body of unknown length,
        # whatever the server (nginx in larder's place as well): there the push has a length.
        buffer = ("-c", "http.postBuffer=512m") if way == "http2" else ()
        self.git(way, *buffer, "-C", clone, "push", "--quiet", self.url(way, "pushed"), "HEAD:refs/heads/new")
        sent = self.backend.take_seen()[-1]
        self.assertGreater(sent.received, size)
        self.assertEqual(sent.chunked, size > 1 << 20 and way != "http2")
        head = self.at("git", "-C", clone, "rev-parse", "HEAD").stdout
        self.assertEqual(self.at("git", "-C", repository, "rev-parse", "refs/heads/new").stdout, head)
        arrived = self.at("git", "-C", repository, "cat-file", "-s", "refs/heads/new:noise").stdout
        self.assertEqual(arrived, f"{size}\n")
        self.assertLess(self.larder.peak_memory(), MOST)

    def test_a_push_that_is_refused_while_it_is_sent_ends_as_it_does_straight(self):
        with tempfile.TemporaryDirectory(dir=self.scratch) as directory:
            clone = self.work(Path(directory), 64 << 20)
            for status in (401, 403, 413):
                told = {}
                for way in self.ways:
                    self.served("pushed")
                    with self.subTest(way=way, status=status), self.backend.refusing(status, LONG):
                        told[way] = self.refused(way, clone)
                        self.assertEqual(told[way], told["straight"])

    def refused(self, way, clone):
        """What git says to it."""
        self.backend.take_seen()
        push = ("push", "--quiet", self.url(way, "pushed"), "HEAD:refs/heads/new")
        ran = self.git(way, "-C", clone, *push, fails=True)
        seen = self.backend.take_seen()
        self.assertLess(seen[-1].received, 32 << 20, "it went on sending")
        asked = [(one.request, one.status) for one in seen]
        return ran.returncode, re.sub(r"https?://[^/]+", "URL", ran.stderr), asked

    def test_a_refusal_comes_instead_of_100(self):
        self.served("project")
        noise = self.scratch / "noise"
        noise.write_bytes(os.urandom(2 << 20))
        # curl asks for it over HTTP/1.1 alone.
        for way in ("straight", "larder"):
            with self.subTest(way=way), self.backend.refusing(413, 0):
                self.backend.take_seen()
                answer = curl.get(
                    self.url(way, "project") + "/git-receive-pack",
                    *("--expect100-timeout", str(PATIENCE)),
                    *("--header", "Expect: 100-continue", "--data-binary", f"@{noise}"),
                )
                self.assertEqual((answer.status, answer.body), (413, b"not this one"))
                (seen,) = self.backend.take_seen()
                self.assertEqual((seen.expected, seen.received), (True, 0))

    def test_wrong_credentials_are_gitlabs_to_refuse(self):
        def ask(way, _, directory):
            wrong = self.url(way, "project", "wrong")
            ran = self.git(way, "clone", wrong, directory / "clone", fails=True)
            told = re.sub(r"https?://[^/]+", "URL", ran.stderr).replace(str(directory), "")
            self.assertIn("Authentication failed", told)
            return told

        self.each_way(ask)
