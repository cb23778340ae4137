"""
Calls that a function makes to others, over the channel on which it is called. A call belongs to an invocation and ends
with it. All of it lives on the loop's thread. Answers are read whole.
"""

from . import frames


class CallError(Exception):
    """There is no answer. `code` is one of Skiff's error codes."""

    def __init__(self, message, code=None):
        super().__init__(message)
        self.code = code


class Answer:
    """What was called has answered: `status`, `headers` (name, value pairs) and `body` (bytes)."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = [(name, value) for name, value in headers]
        self.body = body


class _Call:
    def __init__(self, parent, future, rest):
        self.parent = parent
        self.future = future
        self.rest = rest
        self.credit = 0
        self.head = None
        self.pieces = []


class Calls:
    def __init__(self, host):
        self._host = host
        self._calls = {}
        self._last = 0

    async def open(self, parent, target, method, path, headers, body):
        head = frames.dump({"parent": parent, "target": target, "method": method, "path": path, "headers": headers})
        if len(head) > frames.HEAD_BYTES_MAX:
            raise ValueError(f"the head of the call has {len(head)} bytes; the limit is {frames.HEAD_BYTES_MAX}")
        self._last = self._last % 0xFFFF_FFFE + 1
        while self._last in self._calls:
            self._last = self._last % 0xFFFF_FFFE + 1
        stream = self._last
        first, rest = body[: frames.DATA_BYTES_MAX], memoryview(body)[frames.DATA_BYTES_MAX :]
        call = _Call(parent, self._host.loop.create_future(), rest)
        call.credit = frames.WINDOW_BYTES - len(first)
        self._calls[stream] = call
        kind = frames.CALL if rest else frames.CALL | frames.END
        self._host.send(frames.encode(kind, stream, frames.encode_head(head, first)))
        self._send_rest(stream, call)
        try:
            return await call.future
        finally:
            if self._calls.pop(stream, None):
                self._host.send(frames.encode(frames.CALL_CANCEL | frames.END, stream))

    def _send_rest(self, stream, call):
        while call.rest and call.credit:
            size = min(call.credit, frames.DATA_BYTES_MAX, len(call.rest))
            piece, call.rest = call.rest[:size], call.rest[size:]
            call.credit -= size
            kind = frames.CALL_DATA if call.rest else frames.CALL_DATA | frames.END
            self._host.send(frames.encode(kind, stream, bytes(piece)))

    def on_frame(self, kind, is_end, stream, payload):
        call = self._calls.get(stream)
        # One that was cancelled may have an answer under way.
        if call is None:
            return
        if kind == frames.CALL_WINDOW:
            call.credit += frames.parse_window(payload)
            self._send_rest(stream, call)
        elif kind == frames.CALL_ERROR:
            failure = frames.parse_json(payload)
            self._settle(stream, call, error=CallError(str(failure.get("message")), failure.get("code")))
        elif kind in (frames.CALL_RESPONSE, frames.CALL_DATA):
            if kind == frames.CALL_RESPONSE:
                call.head, payload = frames.parse_head(payload)
            call.pieces.append(payload)
            if is_end:
                answer = Answer(call.head["status"], call.head["headers"], b"".join(call.pieces))
                self._settle(stream, call, answer)
            elif payload:
                self._host.send(frames.encode(frames.CALL_WINDOW, stream, frames.encode_window(len(payload))))

    def _settle(self, stream, call, answer=None, error=None):
        self._calls.pop(stream, None)
        if call.future.done():
            return
        if error is None:
            call.future.set_result(answer)
        else:
            call.future.set_exception(error)

    def end_of(self, parent):
        """The invocation is over, and so are its calls."""
        for stream, call in list(self._calls.items()):
            if call.parent == parent:
                self._host.send(frames.encode(frames.CALL_CANCEL | frames.END, stream))
                self._settle(stream, call, error=CallError("the invocation that made the call has ended"))
