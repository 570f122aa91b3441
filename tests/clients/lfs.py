"""LFS as GitLab serves it: what it answers, and the URLs that it names.

GitLab builds those of its own URL (`external_url`, or the setting for clone URLs), not of the request's host
(app/controllers/repositories/lfs_api_controller.rb, lib/gitlab/repository_url_builder.rb).
"""

import hashlib
import json
import re

KIND = "application/vnd.git-lfs+json"

API = re.compile(r"(/.+\.git)/info/lfs/(objects/batch|locks/verify|locks/(\w+)/unlock|locks)")
OBJECT = re.compile(r"/.+\.git/gitlab-lfs/objects/([0-9a-f]{64})(?:/(\d+))?")


def is_for(path):
    return "/info/lfs/" in path or "/gitlab-lfs/" in path


class Lfs:
    """Objects in a directory, and locks, of all repositories."""

    def __init__(self, directory):
        self.directory = directory
        self.directory.mkdir()
        # GitLab's own URL.
        self.external = None
        self.locks = {}

    def answer(self, method, target, fields, body):
        """A status, a body and its type."""
        path = target.partition("?")[0]
        if found := OBJECT.fullmatch(path):
            return self._put(body, *found.groups()) if method == "PUT" else self._get(found[1])
        sent = json.loads(b"".join(body.pieces()) or b"{}")
        repository, what, lock = API.fullmatch(path).groups()
        if what == "objects/batch":
            told = self._batch(sent, repository, fields["Authorization"])
        elif what == "locks/verify":
            told = {"ours": list(self.locks.values()), "theirs": []}
        elif lock:
            told = {"lock": self.locks.pop(lock)}
        elif method == "POST":
            told = {"lock": self._lock(sent["path"])}
        else:
            told = {"locks": list(self.locks.values())}
        return 201 if method == "POST" and what == "locks" else 200, json.dumps(told).encode(), KIND

    def _lock(self, path):
        made = {"id": str(len(self.locks) + 1), "path": path, "locked_at": "2026-01-01T00:00:00Z"}
        self.locks[made["id"]] = {**made, "owner": {"name": "Somebody"}}
        return self.locks[made["id"]]

    def _batch(self, sent, repository, authorization):
        """An object that is there isn't uploaded again."""
        objects = f"{self.external}{repository}/gitlab-lfs/objects"
        header = {"Authorization": authorization}
        told = []
        for one in sent["objects"]:
            one = {"oid": one["oid"], "size": one["size"]}
            there = (self.directory / one["oid"]).exists()
            if sent["operation"] == "upload" and not there:
                framed = {**header, "Content-Type": "application/octet-stream", "Transfer-Encoding": "chunked"}
                href = f"{objects}/{one['oid']}/{one['size']}"
                one["actions"] = {"upload": {"href": href, "header": framed}}
            elif sent["operation"] == "download" and there:
                one["actions"] = {"download": {"href": f"{objects}/{one['oid']}", "header": header}}
            elif sent["operation"] == "download":
                one["error"] = {"code": 404, "message": "Object does not exist on the server"}
            told.append(one)
        return {"objects": told}

    def _put(self, body, name, size):
        digest = hashlib.sha256()
        with (self.directory / f"{name}.arriving").open("wb") as file:
            for piece in body.pieces():
                digest.update(piece)
                file.write(piece)
        if digest.hexdigest() != name or body.received != int(size):
            return 400, b"not that object", "text/plain"
        (self.directory / f"{name}.arriving").rename(self.directory / name)
        return 200, b"", "text/plain"

    def _get(self, name):
        return 200, (self.directory / name).read_bytes(), "application/octet-stream"
