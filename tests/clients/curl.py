"""curl, as people call it in job scripts."""

import json
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

from programs import PATIENCE


def start(url, *arguments):
    """Starts one curl; `finish` awaits it."""
    out = tempfile.TemporaryDirectory(prefix="larder-curl-")
    body = Path(out.name, "body")
    command = [
        "curl",
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--output",
        str(body),
        "--write-out",
        "%{stderr}%{header_json}%{stdout}%{http_code}",
        *arguments,
        url,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return SimpleNamespace(process=process, out=out, body=body)


def finish(running):
    """Status, fields by lower-case name, and body of what came."""
    status, rest = running.process.communicate(timeout=PATIENCE)
    with running.out:
        if running.process.returncode != 0:
            raise AssertionError(f"curl ended with {running.process.returncode}: {rest}")
        body = running.body.read_bytes() if running.body.exists() else b""
    fields = {name: ", ".join(values) for name, values in json.loads(rest).items()}
    return SimpleNamespace(status=int(status), fields=fields, body=body)


def get(url, *arguments):
    return finish(start(url, *arguments))
