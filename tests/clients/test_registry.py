"""Images are pushed to a registry behind larder and pulled from it again, by skopeo, byte for byte."""

import contextlib
import hashlib
import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from programs import ENVIRONMENT, PATIENCE, Larder, Program

CONFIGURATION = """
version: 0.1
log: {{level: info, accesslog: {{disabled: true}}, formatter: json}}
storage: {{filesystem: {{rootdirectory: {directory}}}}}
http: {{addr: "127.0.0.1:0"}}
"""


class Registry(Program):
    """Debian's docker-registry; it takes a free port and says which."""

    def __init__(self, directory):
        file = directory / "registry.yml"
        file.write_text(CONFIGURATION.format(directory=directory / "images"))
        super().__init__(("docker-registry", "serve", str(file)), "stderr")
        self.url = None
        while not self.url:
            found = re.search(r"listening on (127\.0\.0\.1:\d+)", self.next_line())
            self.url = found and f"http://{found[1]}"


def image(directory, layer):
    """An image of one layer, as skopeo's `dir:` has it (OCI image manifest, schema 2)."""
    layers = {"type": "layers", "diff_ids": [digest(layer)]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": layers})
    blobs = {digest(layer): layer, digest(config.encode()): config.encode()}
    kinds = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar"
    configured, layered = (
        {"mediaType": kind, "digest": digest(data), "size": len(data)}
        for kind, data in zip(kinds, (config.encode(), layer))
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": configured,
        "layers": [layered],
    }
    directory.mkdir()
    (directory / "version").write_text("Directory Transport Version: 1.1\n")
    (directory / "manifest.json").write_text(json.dumps(manifest))
    for name, data in blobs.items():
        (directory / name.removeprefix("sha256:")).write_bytes(data)


def digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Images(unittest.TestCase):
    def test_an_image_is_pushed_and_pulled(self):
        with contextlib.ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            registry = Registry(scratch)
            stack.callback(registry.stop)
            larder = Larder(registry.url, str(scratch / "cache"))
            stack.callback(larder.stop)
            # Longer than one piece of an upload, and nothing that could be packed.
            layer = os.urandom(9 << 20)
            image(scratch / "made", layer)
            name = f"docker://{larder.url.removeprefix('http://')}/group/project/image:1"

            def copy(source, destination):
                command = ["skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests"]
                command += ["--src-tls-verify=false", "--dest-tls-verify=false", source, destination]
                own = {**ENVIRONMENT, "HOME": str(scratch)}
                ran = subprocess.run(command, env=own, capture_output=True, text=True, timeout=PATIENCE)
                self.assertEqual(ran.returncode, 0, ran.stderr)

            copy(f"dir:{scratch / 'made'}", name)
            copy(name, f"dir:{scratch / 'had'}")
            blob = scratch / "had" / digest(layer).removeprefix("sha256:")
            self.assertEqual(blob.read_bytes(), layer)
