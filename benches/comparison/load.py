"""Loads: many clients on a hot archive with wrk, one client on a cold one with curl."""

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass

# wrk's own summary rounds; this one doesn't.
SUMMARY = """
done = function(summary)
    local e = summary.errors
    io.write(string.format('\\nresult {"requests": %d, "bytes": %d, "microseconds": %d, "errors": %d}\\n',
        summary.requests, summary.bytes, summary.duration, e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass
class Hot:
    """What a server did under load."""

    requests_per_second: float
    bytes_per_second: float
    processor_seconds_per_gb: float


@dataclass
class Cold:
    """How long one client waited."""

    first_byte: float
    whole: float


def hot(server, path, credential, wrk):
    """Loads a server with wrk and tells what it did and what that cost it."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SUMMARY)
        script.flush()
        command = ["wrk", *wrk, "--timeout", "60s", "-s", script.name, "-H", credential, server.url + path]
        before = server.processor_seconds()
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        spent = server.processor_seconds() - before
    line = next(line for line in ran.stdout.splitlines() if line.startswith("result "))
    result = json.loads(line.removeprefix("result "))
    if result["errors"]:
        raise RuntimeError(f"{server.name} made errors:\n{ran.stdout}")
    seconds = result["microseconds"] / 1e6
    return Hot(
        requests_per_second=result["requests"] / seconds,
        bytes_per_second=result["bytes"] / seconds,
        processor_seconds_per_gb=spent / (result["bytes"] / 1e9),
    )


def once(server, job, credential):
    """One download, of all its bytes, by one client."""
    command = ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--output", "/dev/null"]
    command += ["--write-out", "%{time_starttransfer} %{time_total} %{size_download}", "--header", credential]
    ran = subprocess.run([*command, server.url + job["path"]], capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise RuntimeError(f"{server.name} failed: {ran.stderr}")
    first_byte, whole, size = ran.stdout.split()
    if int(size) != job["size"]:
        raise RuntimeError(f"{server.name} sent {size} bytes of {job['size']}")
    return Cold(float(first_byte), float(whole))


def cold(server, job, credential):
    """The same of an archive that the server hasn't seen, on a disk that has nothing else to do."""
    os.sync()
    result = once(server, job, credential)
    server.settle()
    return result
