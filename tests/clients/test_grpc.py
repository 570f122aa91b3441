"""Calls of gRPC through larder, as GitLab's agents and runners make them, by gRPC's own client and server."""

import contextlib
import tempfile
import threading
import unittest
from concurrent import futures

import grpc
from programs import PATIENCE, Larder

# Larger than any window on the way.
LARGE = 3 << 20

LIMITS = [("grpc.max_receive_message_length", 2 * LARGE), ("grpc.max_send_message_length", 2 * LARGE)]


class Agent(grpc.GenericRpcHandler):
    """A service of bytes; what its streams may do next the tests say by events."""

    def __init__(self):
        self.ended = threading.Event()

    def service(self, details):
        kinds = {
            "/agent/Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "/agent/Refuse": grpc.unary_unary_rpc_method_handler(self.refuse),
            "/agent/Watch": grpc.unary_stream_rpc_method_handler(self.watch),
            "/agent/Gather": grpc.stream_unary_rpc_method_handler(self.gather),
            "/agent/Talk": grpc.stream_stream_rpc_method_handler(self.talk),
            "/agent/Wait": grpc.unary_stream_rpc_method_handler(self.wait),
        }
        return kinds.get(details.method)

    def echo(self, message, context):
        told = dict(context.invocation_metadata())
        context.send_initial_metadata([("x-told", told.get("x-agent", ""))])
        context.set_trailing_metadata([("x-behind", "trailer"), ("x-behind-bin", b"\x00\xff")])
        return message

    def refuse(self, message, context):
        context.set_trailing_metadata([("x-why", "nothing here")])
        context.abort(grpc.StatusCode.NOT_FOUND, "no such agent, \u00e4nderung")

    def watch(self, message, context):
        for number in range(int(message)):
            yield b"event %d" % number

    def gather(self, messages, context):
        return b"%d" % sum(len(message) for message in messages)

    def talk(self, messages, context):
        for message in messages:
            yield b"re: " + message
        yield b"bye"

    def wait(self, message, context):
        context.add_callback(self.ended.set)
        yield b"begun"
        self.ended.wait(PATIENCE)


class Calls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with contextlib.ExitStack() as starting:
            directory = starting.enter_context(tempfile.TemporaryDirectory(prefix="larder-clients-"))
            server = grpc.server(futures.ThreadPoolExecutor(8), options=LIMITS)
            cls.agent = Agent()
            server.add_generic_rpc_handlers((cls.agent,))
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            starting.callback(lambda: server.stop(None).wait(PATIENCE))
            cls.larder = Larder(f"http://127.0.0.1:{port}", directory, {"upstream.http2": "prior-knowledge"})
            starting.callback(cls.larder.stop)
            address = cls.larder.url.removeprefix("http://")
            proxy = ("grpc.enable_http_proxy", 0)
            cls.channel = starting.enter_context(grpc.insecure_channel(address, options=[*LIMITS, proxy]))
            cls.started = starting.pop_all()

    @classmethod
    def tearDownClass(cls):
        cls.started.close()

    def unary(self, name):
        return self.channel.unary_unary(f"/agent/{name}")

    def test_a_call_and_its_metadata(self):
        for message in (b"", b"hello", bytes(LARGE)):
            answer, call = self.unary("Echo").with_call(
                message, metadata=[("x-agent", "one")], timeout=PATIENCE
            )
            self.assertEqual(answer, message)
            self.assertEqual(dict(call.initial_metadata())["x-told"], "one")
            behind = dict(call.trailing_metadata())
            self.assertEqual((behind["x-behind"], behind["x-behind-bin"]), ("trailer", b"\x00\xff"))

    def test_errors_with_their_words(self):
        with self.assertRaises(grpc.RpcError) as refused:
            self.unary("Refuse")(b"", timeout=PATIENCE)
        self.assertEqual(refused.exception.code(), grpc.StatusCode.NOT_FOUND)
        self.assertEqual(refused.exception.details(), "no such agent, \u00e4nderung")
        self.assertEqual(dict(refused.exception.trailing_metadata())["x-why"], "nothing here")
        with self.assertRaises(grpc.RpcError) as unknown:
            self.unary("Nothing")(b"", timeout=PATIENCE)
        self.assertEqual(unknown.exception.code(), grpc.StatusCode.UNIMPLEMENTED)

    def test_a_stream_of_answers(self):
        events = self.channel.unary_stream("/agent/Watch")(b"200", timeout=PATIENCE)
        self.assertEqual(list(events), [b"event %d" % number for number in range(200)])
        self.assertEqual(events.code(), grpc.StatusCode.OK)

    def test_a_stream_of_questions(self):
        pieces = iter([bytes(100_000)] * 20)
        gathered = self.channel.stream_unary("/agent/Gather")(pieces, timeout=PATIENCE)
        self.assertEqual(gathered, b"2000000")

    def test_both_sides_in_turn(self):
        heard = threading.Semaphore(0)

        def words():
            for word in (b"one", b"two", b"three"):
                yield word
                # The next word waits for the answer to this one.
                self.assertTrue(heard.acquire(timeout=PATIENCE))

        answers = []
        for answer in self.channel.stream_stream("/agent/Talk")(words(), timeout=PATIENCE):
            answers.append(answer)
            heard.release()
        self.assertEqual(answers, [b"re: one", b"re: two", b"re: three", b"bye"])

    def test_a_client_that_cancels_is_heard_of(self):
        self.agent.ended.clear()
        call = self.channel.unary_stream("/agent/Wait")(b"")
        self.assertEqual(next(call), b"begun")
        call.cancel()
        self.assertTrue(self.agent.ended.wait(PATIENCE))

    def test_a_deadline_ends_both_sides(self):
        self.agent.ended.clear()
        call = self.channel.unary_stream("/agent/Wait")(b"", timeout=0.5)
        with self.assertRaises(grpc.RpcError) as late:
            list(call)
        self.assertEqual(late.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        self.assertTrue(self.agent.ended.wait(PATIENCE))


if __name__ == "__main__":
    unittest.main()
