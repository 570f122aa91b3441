"""The programs that people write archives with: each takes a directory and writes a new archive of what is in it."""

import subprocess
import zipfile

from programs import ENVIRONMENT, PATIENCE

# Names beyond ASCII need one that knows them.
LOCALE = {**ENVIRONMENT, "LC_ALL": "C.UTF-8"}


def tree(root):
    """Something of everything below `root`: sizes, kinds, names."""
    contents = {
        "empty": b"",
        "text.txt": b"the same line again and again\n" * 5000,
        "noise.bin": bytes((7 * index * index + index // 3) % 256 for index in range(70_000)),
        "page.html": b"<!DOCTYPE html><title>Page</title>",
        "deep/er/still/one": b"1",
        "two words & more.txt": b"escaped",
        "gr\u00fc\u00dfe/\u65e5\u672c\u8a9e.txt": "\u00e4\u00f6\u00fc".encode(),
    }
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "nothing in it").mkdir()
    (root / "program").write_bytes(b"#!/bin/sh\nexit 0\n")
    (root / "program").chmod(0o755)


def _below(root):
    return sorted(root.rglob("*"))


def _python(method, zip64=False):
    def write(root, out):
        with zipfile.ZipFile(out, "w") as archive:
            for path in _below(root):
                info = zipfile.ZipInfo.from_file(path, path.relative_to(root).as_posix())
                if path.is_dir():
                    archive.write(path, info.filename)
                    continue
                info.compress_type = method
                with archive.open(info, "w", force_zip64=zip64) as member:
                    member.write(path.read_bytes())

    return write


def _python_streaming(root, out):
    """To a pipe: what is known only afterwards follows each member."""
    with out.open("wb") as file, subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file) as pipe:
        with zipfile.ZipFile(pipe.stdin, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in _below(root):
                archive.write(path, path.relative_to(root).as_posix())


def _program(*command):
    """A command line that `OUT` stands in."""

    def write(root, out):
        line = [str(out) if word == "OUT" else word for word in command]
        ran = subprocess.run(
            line, cwd=root, env=LOCALE, capture_output=True, stdin=subprocess.DEVNULL, timeout=PATIENCE
        )
        if ran.returncode != 0:
            raise AssertionError(f"{command[0]} ended with {ran.returncode}: {(ran.stdout + ran.stderr)[-2000:]}")

    return write


WRITERS = {
    "python-stored": _python(zipfile.ZIP_STORED),
    "python-deflated": _python(zipfile.ZIP_DEFLATED),
    "python-zip64": _python(zipfile.ZIP_DEFLATED, zip64=True),
    "python-streaming": _python_streaming,
    "info-zip": _program("zip", "--quiet", "--recurse-paths", "OUT", "."),
    "info-zip-stored-zip64": _program("zip", "--quiet", "--recurse-paths", "-0", "--force-zip64", "OUT", "."),
    "info-zip-streaming": _program("sh", "-c", 'zip --quiet --recurse-paths - . >"$1"', "sh", "OUT"),
    "7zip": _program("7zz", "a", "-bd", "-tzip", "OUT", "."),
    "7zip-best": _program("7zz", "a", "-bd", "-tzip", "-mx=9", "-mcu=on", "OUT", "."),
    "bsdtar": _program("sh", "-c", 'bsdtar -c --format=zip -f "$1" -- *', "sh", "OUT"),
    "bsdtar-stored": _program(
        "sh", "-c", 'bsdtar -c --format=zip --options=zip:compression=store -f "$1" -- *', "sh", "OUT"
    ),
    "jar": _program("fastjar", "cf", "OUT", "."),
}
