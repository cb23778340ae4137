"""
Serves the image's function over HTTP where there is no channel: each request becomes frames, as a runner would send
them, and the frames of the answer become the response. For `docker run`; behind a runner this is never loaded.
"""

import asyncio
import os
import queue
import signal
import struct
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from . import frames
from .guest import Guest

TIMEOUT_MS = 3_600_000
CONCURRENCY = 32


class HttpGuest(Guest):
    """A guest whose peer is this process: what it sends is put into the queue of its stream."""

    def __init__(self, loop):
        super().__init__(loop)
        self.queues = {}
        # There is nobody to call.
        self.calls = None

    def send(self, frame):
        length, kind, stream = struct.unpack_from("<IBI", frame)
        if stream in self.queues:
            self.queues[stream].put((kind & ~frames.END, kind & frames.END != 0, frame[9:]))

    def log(self, stream, level, message, fields=None):
        text = f"{message} {fields}" if fields else str(message)
        os.write(2 if level in ("warn", "error") else 1, f"{text}\n".encode("utf-8", "replace"))

    def exit(self, code):
        os._exit(code)


async def serve_http():
    entry = os.environ.get("SKIFF_ENTRY")
    if entry is None:
        raise RuntimeError("no channel and no SKIFF_ENTRY: there is nothing to serve")
    loop = asyncio.get_running_loop()
    guest = HttpGuest(loop)
    await guest.serve(entry, os.environ.get("SKIFF_FUNCTION", "function"), "local", CONCURRENCY)
    server = ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT", "8080"))), create_handler(guest, loop))
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    guest.log(0, "info", f"listening on port {server.server_port}")
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, guest.drain)
    await loop.create_future()


def create_handler(guest, loop):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        counter = iter(range(1, 2**31))

        def log_message(self, *_):
            pass

        def do_request(self):
            stream = next(Handler.counter)
            guest.queues[stream] = queue.Queue()
            try:
                self.exchange(stream)
            except (ConnectionError, TimeoutError):
                self.close_connection = True
                loop.call_soon_threadsafe(self.call, stream, "cancel", "the client left")
            finally:
                del guest.queues[stream]

        def exchange(self, stream):
            host = self.headers.get("host", "localhost")
            head = {
                "id": f"inv-{uuid.uuid4().hex[:26]}",
                "method": self.command,
                "url": f"http://{host}{self.path}",
                "headers": [[name.lower(), value] for name, value in self.headers.items()],
                "deadlineMs": time.time() * 1000 + TIMEOUT_MS,
            }
            body = self.read_body()
            first = next(body, b"")
            loop.call_soon_threadsafe(guest.begin, stream, head, first, first == b"")
            if first:
                # The rest as the handler takes it: each grant of credit lets another piece in.
                Thread(target=self.upload, args=(stream, body), daemon=True).start()
            self.answer(stream)

        def upload(self, stream, body):
            credit = guest.queues[stream].credit = queue.Queue()
            room = frames.WINDOW_BYTES - frames.DATA_BYTES_MAX
            for piece in body:
                while room < len(piece):
                    room += credit.get()
                room -= len(piece)
                loop.call_soon_threadsafe(self.call, stream, "push", piece, False)
            loop.call_soon_threadsafe(self.call, stream, "push", b"", True)

        @staticmethod
        def call(stream, method, *arguments):
            invocation = guest.invocations.get(stream)
            if invocation:
                getattr(invocation, method)(*arguments)

        def read_body(self):
            if self.headers.get("transfer-encoding", "").lower() == "chunked":
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    while size:
                        piece = self.rfile.read(min(size, frames.DATA_BYTES_MAX))
                        size -= len(piece)
                        yield piece
                    self.rfile.readline()
                self.rfile.readline()
                return
            left = int(self.headers.get("content-length") or 0)
            while left:
                piece = self.rfile.read(min(left, frames.DATA_BYTES_MAX))
                if not piece:
                    raise ConnectionError
                left -= len(piece)
                yield piece

        def answer(self, stream):
            frames_of = guest.queues[stream]
            is_chunked = has_begun = False
            while True:
                kind, is_end, payload = frames_of.get()
                if kind == frames.WINDOW:
                    if hasattr(frames_of, "credit"):
                        frames_of.credit.put(frames.parse_window(payload))
                elif kind == frames.ERROR:
                    if has_begun:
                        raise ConnectionError
                    guest.log(stream, "error", frames.parse_json(payload).get("stack") or "cancelled")
                    self.send_error(500, "The function failed")
                    return
                elif kind == frames.RESPONSE:
                    head, body = frames.parse_head(payload)
                    has_begun = True
                    is_chunked = self.begin(head, body, is_end)
                    self.send_piece(body, is_chunked)
                elif kind == frames.DATA:
                    self.send_piece(payload, is_chunked)
                    loop.call_soon_threadsafe(self.call, stream, "grant", len(payload))
                if is_end:
                    if is_chunked:
                        self.wfile.write(b"0\r\n\r\n")
                    return

        def begin(self, head, body, is_end):
            self.send_response(head["status"])
            names = {name for name, _ in head["headers"]}
            for name, value in head["headers"]:
                if name not in ("connection", "transfer-encoding", "keep-alive", "server", "date"):
                    self.send_header(name, value)
            has_body = self.command != "HEAD" and head["status"] not in (204, 304)
            is_chunked = has_body and not is_end and "content-length" not in names
            if is_chunked:
                self.send_header("transfer-encoding", "chunked")
            elif has_body and "content-length" not in names:
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            return is_chunked

        def send_piece(self, piece, is_chunked):
            if piece:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)

    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        setattr(Handler, f"do_{method}", Handler.do_request)
    return Handler
