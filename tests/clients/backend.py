"""git over HTTP: a small server around git's own `http-backend`, as Workhorse is one around its commands."""

import base64
import contextlib
import http.server
import os
import socket
import subprocess
import threading
from types import SimpleNamespace

import lfs
from programs import ENVIRONMENT, PATIENCE

USER, TOKEN = "gitlab-ci-token", "glcbt-64-jobtoken"

ASKS = {"WWW-Authenticate": 'Basic realm="GitLab"'}

# What is read or written at once.
PIECE = 1 << 20


class Backend(http.server.ThreadingHTTPServer):
    """Serves the repositories below `root` to whoever has the token. What is asked is kept in `seen`."""

    # Its connections end with its clients, and the threads are awaited.
    daemon_threads = False

    def __init__(self, root):
        super().__init__(("127.0.0.1", 0), _Exchange)
        self.root = root
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.seen = []
        # Objects of LFS, and locks.
        self.lfs = None
        # A status for uploads, and how many of their bytes are read before it is given.
        self.refusal = None
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def stop(self):
        self.shutdown()
        self._thread.join()
        self.server_close()

    @contextlib.contextmanager
    def refusing(self, status, after):
        self.refusal = (status, after)
        try:
            yield
        finally:
            self.refusal = None

    def take_seen(self):
        """What was asked since the last time."""
        seen, self.seen = self.seen, []
        return seen

    def handle_error(self, request, client_address):
        # A client that leaves half-way is what some tests are about.
        pass


class Body:
    """A request's body, by length or in chunks, its coding left as it is."""

    def __init__(self, stream, fields):
        self._stream = stream
        self.chunked = fields.get("Transfer-Encoding", "").lower() == "chunked"
        self.length = None if self.chunked else int(fields.get("Content-Length", 0))
        self.received = 0

    def pieces(self):
        if not self.chunked:
            yield from self._exactly(self.length)
            return
        while size := int(self._stream.readline().partition(b";")[0], 16):
            yield from self._exactly(size)
            self._stream.readline()
        # Fields behind it, which git sends none of.
        while self._stream.readline().strip():
            pass

    def _exactly(self, left):
        while left:
            piece = self._stream.read(min(left, PIECE))
            if not piece:
                raise ConnectionError("the body broke off")
            self.received += len(piece)
            left -= len(piece)
            yield piece


class _Exchange(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    rbufsize = PIECE
    wbufsize = PIECE
    disable_nagle_algorithm = True
    timeout = PATIENCE

    def log_message(self, *_):
        pass

    def handle_expect_100(self):
        """Whoever asks whether to send is told no in place of 100."""
        if self._is_upload() and self.server.refusal and self.server.refusal[1] == 0:
            self.note(Body(self.rfile, self.headers), self.server.refusal[0], expected=True)
            self.answer(self.server.refusal[0], b"not this one", close=True)
            self.wfile.flush()
            return False
        self.send_response_only(100)
        self.end_headers()
        self.wfile.flush()
        return True

    def do_GET(self):
        self._serve()

    def do_POST(self):
        self._serve()

    def do_PUT(self):
        self._serve()

    def _is_upload(self):
        return self.command == "POST" and self.path.endswith("/git-receive-pack")

    def _serve(self):
        body = Body(self.rfile, self.headers)
        refusal = self.server.refusal
        if not self._is_known():
            # Whoever doesn't know yet sends no body worth reading.
            self.note(body, 401)
            self.answer(401, b"HTTP Basic: Access denied\n", ASKS, close=True)
        elif self._is_upload() and refusal and self._reads_more_than(body, refusal[1]):
            self._refuse(body, refusal[0])
        elif self.server.lfs and lfs.is_for(self.path):
            status, content, kind = self.server.lfs.answer(self.command, self.path, self.headers, body)
            self.note(body, status)
            self.answer(status, content, {"Content-Type": kind})
        else:
            self._run(body)

    def _is_known(self):
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        return scheme == "Basic" and base64.b64decode(given) == f"{USER}:{TOKEN}".encode()

    def _reads_more_than(self, body, count):
        """A body of no more is looked at for nothing but its length."""
        if body.length is not None and body.length <= count:
            return False
        for _ in body.pieces():
            if body.received > count:
                return True
        raise AssertionError("an upload in chunks that isn't long")

    def _refuse(self, body, status):
        """Says so while the client still sends, and reads on until it stops, lest a reset overtakes the answer."""
        self.answer(status, b"not this one", ASKS if status == 401 else {}, close=True)
        self.wfile.flush()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while piece := self.connection.recv(PIECE):
                body.received += len(piece)
        self.note(body, status)

    def answer(self, status, content, fields=None, close=False):
        self.send_response(status)
        for name, value in (fields or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        if close:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def note(self, body, status, expected=False):
        self.server.seen.append(
            SimpleNamespace(
                request=f"{self.command} {self.path}",
                status=status,
                coding=self.headers.get("Content-Encoding"),
                protocol=self.headers.get("Git-Protocol"),
                chunked=body.chunked,
                received=body.received,
                expected=expected or "Expect" in self.headers,
                through_larder="Via" in self.headers,
            )
        )

    def _run(self, body):
        path, _, query = self.path.partition("?")
        known = {
            "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REMOTE_ADDR": self.client_address[0],
            "REMOTE_USER": USER,
            "REQUEST_METHOD": self.command,
            "HOME": str(self.server.root),
        }
        if body.length is not None:
            known["CONTENT_LENGTH"] = str(body.length)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(["git", "http-backend"], env={**ENVIRONMENT, **known}, **pipes) as git:
            sending = threading.Thread(target=self._feed, args=(body, git.stdin))
            sending.start()
            self._relay(git.stdout, body, sending)

    def _feed(self, body, pipe):
        try:
            with pipe:
                for piece in body.pieces():
                    pipe.write(piece)
        except (OSError, ValueError):
            # git has read enough, or its client is gone; what is left would be taken for the next request.
            self.close_connection = True

    def _relay(self, output, body, sending):
        status, fields = 200, []
        while line := output.readline().strip().decode():
            name, _, value = line.partition(": ")
            if name == "Status":
                status = int(value.split()[0])
            else:
                fields.append((name, value))
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while piece := output.read1(PIECE):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.flush()
        sending.join()
        self.note(body, status)
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()
