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
    body, head = Path(out.name, "body"), Path(out.name, "head")
    command = [
        "curl",
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--output",
        str(body),
        "--dump-header",
        str(head),
        "--write-out",
        "%{stderr}%{header_json}%{stdout}%{http_code}",
        *arguments,
        url,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return SimpleNamespace(process=process, out=out, body=body, head=head)


def finish(running):
    """What came: status, fields by lower-case name, the names as they were spelt and ordered, body."""
    status, rest = running.process.communicate(timeout=PATIENCE)
    with running.out:
        if running.process.returncode != 0:
            raise AssertionError(f"curl ended with {running.process.returncode}: {rest}")
        body = running.body.read_bytes() if running.body.exists() else b""
        lines = running.head.read_text(encoding="latin-1").splitlines()
    names = [line.partition(":")[0] for line in lines if ":" in line]
    fields = {name: ", ".join(values) for name, values in json.loads(rest).items()}
    return SimpleNamespace(status=int(status), fields=fields, names=names, body=body)


def get(url, *arguments):
    return finish(start(url, *arguments))
