"""Git without git: two libraries that speak its protocol each in its own way."""

import io
import tempfile
from pathlib import Path

import pygit2
from backend import TOKEN, USER
from dulwich import porcelain
from repositories import Repositories


class GitLibraries(Repositories):
    def setUp(self):
        super().setUp()
        self.served("project")
        self.main = self.head(self.root / "group" / "project.git")
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory(dir=self.scratch)))

    def head(self, repository):
        return self.at("git", "-C", repository, "rev-parse", "refs/heads/main").stdout.strip()

    def assert_cloned(self, clone):
        self.at("git", "-C", clone, "fsck", "--full", "--strict")
        self.assertEqual(self.at("git", "-C", clone, "rev-parse", "HEAD").stdout.strip(), self.main)

    def test_dulwich_clones_and_pushes(self):
        url = f"{self.larder.url}/group/project.git"
        own = {"username": USER, "password": TOKEN, "errstream": io.BytesIO()}
        with porcelain.clone(url, self.directory / "clone", **own) as clone:
            self.assert_cloned(self.directory / "clone")
            (self.directory / "clone" / "new").write_text("new\n")
            porcelain.add(clone, [str(self.directory / "clone" / "new")])
            who = b"Somebody <somebody@example.com>"
            made = porcelain.commit(clone, message=b"new", author=who, committer=who, sign=False)
            porcelain.push(clone, url, "refs/heads/main", **own)
        self.assertEqual(self.head(self.root / "group" / "project.git"), made.decode())

    def test_pygit2_clones_and_fetches(self):
        class Own(pygit2.RemoteCallbacks):
            def credentials(self, url, username_from_url, allowed_types):
                return pygit2.UserPass(USER, TOKEN)

        url = f"{self.larder.url}/group/project.git"
        clone = pygit2.clone_repository(url, self.directory / "clone", callbacks=Own())
        self.assert_cloned(self.directory / "clone")
        more = self.commit(0).replace("refs/heads/", "refs/heads/more-")
        self.at("git", "-C", self.root / "group" / "project.git", "fast-import", "--quiet", stdin=more)
        clone.remotes["origin"].fetch(callbacks=Own())
        self.assertIn("refs/remotes/origin/more-main", clone.references)
