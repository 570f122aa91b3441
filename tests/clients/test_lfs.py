"""git-lfs: what is asked goes the way of the repository, objects go to the URL that GitLab names."""

import hashlib
import os
import tempfile
from pathlib import Path

from lfs import Lfs
from repositories import Repositories

# In MiB; one of it takes the long way through larder.
LONG, SHORT = 100, 3


class GitLfs(Repositories):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.at("git", "lfs", "install", "--skip-repo")

    def setUp(self):
        directory = tempfile.TemporaryDirectory(dir=self.scratch)
        self.addCleanup(directory.cleanup)
        self.here = Path(directory.name)
        self.backend.lfs = Lfs(self.here / "objects")
        self.addCleanup(setattr, self.backend, "lfs", None)
        self.backend.take_seen()

    def work(self, way, mebibytes):
        """A clone with one new file that LFS keeps, and its bytes."""
        self.served("project")
        clone = self.here / f"work-{way}"
        self.git(way, "clone", "--quiet", "--depth=1", self.url(way, "project"), clone)
        self.at("git", "-C", clone, "lfs", "track", "*.bin")
        noise = os.urandom(mebibytes << 20)
        (clone / "noise.bin").write_bytes(noise)
        self.at("git", "-C", clone, "add", ".")
        self.at("git", "-C", clone, "commit", "--quiet", "--message=noise")
        return clone, noise

    def there_and_back(self, way, external, mebibytes):
        """Pushes a file and clones it again; returns which requests took the way through larder."""
        self.backend.lfs.external = self.ways[external]
        clone, noise = self.work(way, mebibytes)
        self.git(way, "-C", clone, "push", "--quiet", "origin", "HEAD")
        name = hashlib.sha256(noise).hexdigest()
        self.assertEqual([file.name for file in self.backend.lfs.directory.iterdir()], [name])
        self.git(way, "clone", "--quiet", "--depth=1", self.url(way, "project"), self.here / f"again-{way}")
        self.assertTrue((self.here / f"again-{way}" / "noise.bin").read_bytes() == noise, "the bytes differ")
        (self.backend.lfs.directory / name).unlink()
        asked = {}
        for one in self.backend.take_seen():
            # Before the first 401 git keeps the credentials to itself.
            self.assertIn(one.status, (200, 401), one.request)
            for what in ("gitlab-lfs/objects", "objects/batch", "locks/verify", "git-receive-pack"):
                if what in one.request:
                    asked.setdefault(what, set()).add(one.through_larder)
        return asked

    def test_objects_go_straight_where_gitlab_names_itself(self):
        # Told to speak HTTP/2, git-lfs takes no URL without TLS.
        for way in ("straight", "larder"):
            with self.subTest(way=way):
                asked = self.there_and_back(way, "straight", SHORT)
                through = way != "straight"
                self.assertEqual(asked.pop("gitlab-lfs/objects"), {False})
                for what in ("objects/batch", "locks/verify", "git-receive-pack"):
                    self.assertEqual(asked[what], {through}, what)

    def test_objects_go_through_larder_where_gitlab_knows_it_by_that_name(self):
        for way, mebibytes in (("larder", LONG), ("http2", SHORT)):
            with self.subTest(way=way):
                asked = self.there_and_back(way, way, mebibytes)
                self.assertEqual(set().union(*asked.values()), {True}, asked)
                self.assertEqual(len(asked), 4)

    def test_locks_are_had_and_given_back(self):
        for way in self.ways:
            with self.subTest(way=way):
                clone, _ = self.work(way, 1)
                self.git(way, "-C", clone, "lfs", "lock", "noise.bin")
                self.assertEqual(len(self.backend.lfs.locks), 1)
                self.assertIn("noise.bin", self.git(way, "-C", clone, "lfs", "locks").stdout)
                self.git(way, "-C", clone, "lfs", "unlock", "noise.bin")
                self.assertEqual(self.backend.lfs.locks, {})
