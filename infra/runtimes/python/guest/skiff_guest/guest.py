"""
The agent's side of its channel: HELLO, LOAD once, then invocations, many at a time. What the protocol does not allow
is a FrameError; the process then ends, for its peer cannot be trusted or is not the one it was made for.
"""

import asyncio
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from . import frames, logs
from .calls import Calls
from .errors import describe
from .invocation import Invocation
from .loader import load_handler

EXIT_PROTOCOL = 76
CONGESTED_BYTES = 1024 * 1024
UNSENT_BYTES_MAX = 4 * 1024 * 1024
THREADS_MAX = 64
FLUSH_S_MAX = 0.2


class Guest(asyncio.Protocol):
    def __init__(self, loop):
        self.loop = loop
        self.thread = threading.get_ident()
        self.handler = None
        self.identity = {}
        self.threads = None
        self.invocations = {}
        self.calls = Calls(self)
        self.transport = None
        self._reader = frames.Reader(self._on_frame)
        self._out = []
        self._is_flush_planned = False
        self._is_loading = False
        self._is_draining = False
        self._is_ending = False
        self._drain = None

    # asyncio.Protocol

    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(high=CONGESTED_BYTES)
        hello = {"protocol": frames.PROTOCOL, "role": "guest", "runtime": f"python {sys.version.split()[0]}", "pid": os.getpid()}
        self.send(frames.encode_json(frames.HELLO, 0, hello))

    def data_received(self, data):
        try:
            self._reader.push(data)
        except frames.FrameError as error:
            self.log(0, "error", f"the runner broke the protocol: {error}")
            self.exit(EXIT_PROTOCOL)

    def connection_lost(self, error):
        os._exit(0)

    def pause_writing(self):
        self._drain = self.loop.create_future()

    def resume_writing(self):
        if self._drain is not None:
            self._drain.set_result(None)
            self._drain = None

    # What invocations use.

    def send(self, frame):
        """Frames of one turn of the loop leave together."""
        self._out.append(frame)
        if not self._is_flush_planned:
            self._is_flush_planned = True
            self.loop.call_soon(self._flush)

    def _flush(self):
        self._is_flush_planned = False
        if self._out and self.transport is not None:
            out, self._out = self._out, []
            self.transport.write(b"".join(out))

    def is_congested(self):
        return self._drain is not None

    async def drained(self):
        if self._drain is not None:
            await asyncio.shield(self._drain)

    def settled(self, invocation):
        self.invocations.pop(invocation.stream, None)
        if self._is_draining and not self.invocations:
            self.exit(0)

    def log(self, stream, level, message, fields=None):
        """From any thread; never raises."""
        try:
            record = logs.encode(level, message, fields)
        except Exception as error:
            record = logs.encode(level, message, {"dropped": str(error)})
        frame = frames.encode_json(frames.LOG, stream, record)
        if threading.get_ident() == self.thread:
            self._log(frame)
        else:
            self.loop.call_soon_threadsafe(self._log, frame)

    def _log(self, frame):
        if self.transport is None or self.transport.get_write_buffer_size() < UNSENT_BYTES_MAX:
            self.send(frame)

    def log_current(self, level, message, fields):
        invocation = logs.current.get()
        self.log(invocation.stream if invocation else 0, level, message, fields)

    def drain(self):
        self._is_draining = True
        if not self.invocations:
            self.exit(0)

    def exit(self, code):
        """Ends the process when the last frames have left, from any thread."""
        if self._is_ending:
            return
        self._is_ending = True

        def end():
            self._flush()
            if self.transport is not None:
                self.transport.close()
                self.connection_lost = lambda _: os._exit(code)
            self.loop.call_later(FLUSH_S_MAX, os._exit, code)

        self.loop.call_soon_threadsafe(end)

    # Frames.

    def _on_frame(self, kind, is_end, stream, payload):
        if kind == frames.REQUEST:
            self.begin(stream, *frames.parse_head(payload), is_end)
        elif kind == frames.DATA:
            invocation = self.invocations.get(stream)
            if invocation:
                invocation.push(payload, is_end)
        elif kind == frames.WINDOW:
            granted = frames.parse_window(payload)
            invocation = self.invocations.get(stream)
            if invocation:
                invocation.grant(granted)
        elif kind == frames.CANCEL:
            invocation = self.invocations.get(stream)
            reason = frames.parse_json(payload).get("reason")
            if invocation:
                invocation.cancel(reason if isinstance(reason, str) else "unknown")
        elif frames.CALL < kind <= frames.CALL_ERROR:
            self.calls.on_frame(kind, is_end, stream, payload)
        elif kind == frames.PING:
            self.send(frames.encode(frames.PONG, stream, payload))
        elif kind == frames.LOAD:
            if self._is_loading:
                raise frames.FrameError("a second LOAD; a guest serves one deployment in its life")
            self._is_loading = True
            self.loop.create_task(self._load(frames.parse_json(payload)))
        elif kind != frames.HELLO:
            raise frames.FrameError(f"a frame of type {kind}, which a guest does not take")

    def begin(self, stream, head, first, is_end):
        if self.handler is None:
            raise frames.FrameError("REQUEST before the function was loaded")
        if stream in self.invocations:
            raise frames.FrameError(f"stream {stream} is in use")
        invocation = Invocation(self, stream, head, first, is_end)
        self.invocations[stream] = invocation
        invocation.start()

    async def _load(self, command):
        started = time.perf_counter()
        result = {"ok": True}
        try:
            os.environ.update(command["env"])
            await self.serve(command["entry"], command["functionName"], command["deployment"], command["concurrency"])
        except BaseException as error:
            message, stack = describe(error)
            result = {"ok": False, "message": message, "stack": stack}
        result["loadMs"] = (time.perf_counter() - started) * 1000
        self.send(frames.encode_json(frames.LOADED, 0, result))
        if not result["ok"]:
            self.exit(1)

    async def serve(self, entry, function_name, deployment, concurrency):
        """Loads the function; from here on requests are taken."""
        self.identity = {"function_name": function_name, "deployment": deployment}
        # More threads than slots: work after the answer and cancelled handlers still hold theirs.
        self.threads = ThreadPoolExecutor(min(THREADS_MAX, concurrency * 2 + 2), "handler")
        self.handler = await load_handler(entry)
