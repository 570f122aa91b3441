"""WebSockets through larder: the `websockets` library on both sides, as browsers and runners speak with GitLab."""

import asyncio
import contextlib
import resource
import ssl
import tempfile
import unittest
from pathlib import Path

import certificate
from programs import PATIENCE, Larder
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode

# What GitLab's own pages speak: its terminals, and Action Cable.
PROTOCOLS = ["terminal.gitlab.com", "actioncable-v1-json"]

LARGE = 8 << 20
MANY = 500

# So short that each of them would end a tunnel that it were applied to.
IMPATIENT = {
    "server.header_timeout": "300ms",
    "server.min_rate": "1MiB",
    "server.min_rate_for": "300ms",
    "upstream.read_timeout": "300ms",
    "upstream.answer_timeout": "300ms",
    "upstream.connect_timeout": "5s",
}


class GitLab:
    """The server's side: says what it was asked with, then does what its path says."""

    def __init__(self):
        self.asked = []
        self.closed = asyncio.Queue()

    def admit(self, connection, request):
        self.asked.append(request.headers)
        if request.path == "/refused":
            return connection.respond(403, "not for you\n")
        return None

    def choose(self, _connection, offered):
        """The first that it knows; nobody has to speak one."""
        return next((protocol for protocol in offered if protocol in PROTOCOLS), None)

    async def talk(self, socket):
        path = socket.request.path
        if path == "/first":
            await socket.send("welcome")
        if path == "/close":
            await socket.close(CloseCode.TRY_AGAIN_LATER, "again")
        if path == "/end":
            # Half-closed: nothing more comes, and what the client still sends is read.
            socket.transport.write_eof()
        try:
            async for message in socket:
                await socket.send(message)
        except ConnectionClosed:
            # Not in the way that iterating calls the end.
            pass
        await self.closed.put((socket.close_code, socket.close_reason))


class WebSockets(unittest.IsolatedAsyncioTestCase):
    secure = False

    async def asyncSetUp(self):
        # Otherwise it measures each step of each test.
        asyncio.get_running_loop().set_debug(False)
        self.scratch = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="larder-clients-")))
        self.gitlab = GitLab()
        options = {"select_subprotocol": self.gitlab.choose, "process_request": self.gitlab.admit, "max_size": None}
        server = await self.enterAsyncContext(serve(self.gitlab.talk, "127.0.0.1", 0, **options))
        self.upstream = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self.tls = None

    def start(self, settings=None):
        settings = dict(settings or {})
        if self.secure:
            cert, key = certificate.make(self.scratch)
            settings |= {"server.tls.cert": str(cert), "server.tls.key": str(key)}
            self.tls = ssl.create_default_context(cafile=cert)
        larder = Larder(self.upstream, self.scratch / "cache", settings)
        self.addCleanup(larder.stop)
        self.larder = larder
        self.authority = larder.url.removeprefix("http://")
        return larder

    def connect(self, path="/", **options):
        scheme = "wss" if self.secure else "ws"
        options = {"ssl": self.tls, "proxy": None, "max_size": None, "open_timeout": PATIENCE} | options
        return connect(f"{scheme}://{self.authority}{path}", **options)

    async def test_messages_of_any_kind_and_size_come_back(self):
        self.start()
        for compression in ("deflate", None):
            async with self.connect(compression=compression) as socket:
                extensions = socket.response.headers.get("Sec-WebSocket-Extensions", "")
                self.assertEqual("permessage-deflate" in extensions, compression == "deflate")
                for message in ("", "text \u00e4\u20ac\U0001f600", b"", b"\0\xff\r\n\r\n", bytes(range(256)) * (LARGE >> 8)):
                    await socket.send(message)
                    self.assertTrue(await socket.recv() == message)
                # In pieces, as they are sent.
                await socket.send(piece for piece in ("a", "b" * 70_000, "c"))
                self.assertEqual(await socket.recv(), "a" + "b" * 70_000 + "c")
                await asyncio.wait_for(await socket.ping(b"pong"), PATIENCE)

    async def test_what_is_asked_arrives_and_what_is_agreed_comes_back(self):
        self.start()
        for protocol in PROTOCOLS:
            cookie = {"Cookie": "_gitlab_session=x"}
            origin = "https://gitlab.example.com"
            wish = {"subprotocols": [protocol], "origin": origin, "additional_headers": cookie}
            async with self.connect("/-/cable?x=%2F", **wish) as socket:
                self.assertEqual(socket.subprotocol, protocol)
                self.assertIn("1.1 larder", socket.response.headers["Via"])
            asked = self.gitlab.asked[-1]
            self.assertEqual(asked["Origin"], origin)
            self.assertEqual(asked["Cookie"], cookie["Cookie"])
            self.assertEqual(asked["Host"], self.upstream.removeprefix("http://"))
            self.assertEqual(asked["X-Forwarded-Host"], self.authority)
            self.assertEqual(asked["X-Forwarded-Proto"], "https" if self.secure else "http")

    async def test_either_side_begins_and_either_side_ends(self):
        self.start()
        async with self.connect("/first") as socket:
            self.assertEqual(await socket.recv(), "welcome")
            await socket.close(CloseCode.GOING_AWAY, "bye")
        self.assertEqual(await asyncio.wait_for(self.gitlab.closed.get(), PATIENCE), (CloseCode.GOING_AWAY, "bye"))
        async with self.connect("/close") as socket:
            with self.assertRaises(ConnectionClosed) as closed:
                await socket.recv()
            self.assertEqual((closed.exception.rcvd.code, closed.exception.rcvd.reason), (1013, "again"))
        self.assertEqual(await asyncio.wait_for(self.gitlab.closed.get(), PATIENCE), (CloseCode.TRY_AGAIN_LATER, "again"))
        # One that leaves without a word is gone on the other side as well.
        async with self.connect("/first") as socket:
            self.assertEqual(await socket.recv(), "welcome")
            socket.transport.abort()
        self.assertEqual((await asyncio.wait_for(self.gitlab.closed.get(), PATIENCE))[0], CloseCode.ABNORMAL_CLOSURE)

    async def test_a_server_that_has_ended_its_side_is_still_heard_to_the_end(self):
        self.start()
        async with self.connect("/end") as socket:
            with self.assertRaises(ConnectionClosed) as closed:
                await socket.recv()
            self.assertIsNone(closed.exception.rcvd)

    async def test_a_refusal_comes_with_its_body(self):
        self.start()
        with self.assertRaises(InvalidStatus) as refused:
            async with self.connect("/refused"):
                pass
        response = refused.exception.response
        self.assertEqual((response.status_code, response.body), (403, b"not for you\n"))

    async def test_silence_ends_no_tunnel(self):
        self.start(IMPATIENT)
        async with self.connect(ping_interval=None) as socket:
            # Others that say nothing are let go, one after the other: so much time has passed.
            for _ in range(2):
                reader, writer = await asyncio.open_connection(*self.authority.split(":"), ssl=self.tls)
                self.assertEqual(await asyncio.wait_for(reader.read(), PATIENCE), b"")
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            await socket.send("still here")
            self.assertEqual(await socket.recv(), "still here")

    async def test_many_are_open_at_once(self):
        # Both ends are here.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self.start()
        async with contextlib.AsyncExitStack() as stack:
            # In parts: a listener's queue is bounded.
            sockets = []
            for _ in range(0, MANY, 50):
                opening = [stack.enter_async_context(self.connect(compression=None)) for _ in range(50)]
                sockets += await asyncio.gather(*opening)
            self.assertIn(f"\nlarder_upgrades {MANY}\n", self.larder.metrics())
            await asyncio.gather(*(socket.send(f"{at}") for at, socket in enumerate(sockets)))
            echoes = await asyncio.gather(*(socket.recv() for socket in sockets))
            self.assertEqual(echoes, [str(at) for at in range(MANY)])


class SecureWebSockets(WebSockets):
    """TLS in front."""

    secure = True
