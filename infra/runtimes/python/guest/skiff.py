"""
What a Python function of Skiff may import. A handler is `def handler(request, ctx)` or `async def handler(request,
ctx)`; it returns a Response, or what Response.of makes one of: str, bytes, None, a dict or list (JSON), an iterator of
pieces, or a tuple of one of these with a status and headers.
"""

import asyncio
import datetime
import json
import os
import time
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

__all__ = ["AsyncRequest", "Context", "Headers", "Request", "Response"]


class Headers(Mapping):
    """Names are not case-sensitive; several values of one name are joined with ", "."""

    def __init__(self, pairs):
        self._pairs = [(name.lower(), value) for name, value in pairs]

    def __getitem__(self, name):
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def get_all(self, name):
        return [value for key, value in self._pairs if key == name.lower()]

    def __iter__(self):
        return iter(dict(self._pairs))

    def __len__(self):
        return len(dict(self._pairs))

    def items_all(self):
        return list(self._pairs)


class _RequestBase:
    def __init__(self, invocation):
        self._invocation = invocation
        head = invocation.head
        self.id = head["id"]
        self.method = head["method"]
        self.url = head["url"]
        self.headers = Headers(head["headers"])
        parts = urlsplit(self.url)
        self.path = parts.path
        self.query_string = parts.query
        self._body = None

    @property
    def query(self):
        """The last value of each name."""
        return {name: values[-1] for name, values in self.query_all.items()}

    @property
    def query_all(self):
        return parse_qs(self.query_string, keep_blank_values=True)


class Request(_RequestBase):
    """Of an ordinary handler, which runs in a thread: reading waits."""

    def __init__(self, invocation):
        super().__init__(invocation)
        self._body = invocation.body.try_collect()

    def stream(self):
        """The body piece by piece, as it comes."""
        if self._body is not None:
            if self._body:
                yield self._body
            return
        invocation = self._invocation
        while piece := asyncio.run_coroutine_threadsafe(invocation.body.read(), invocation.host.loop).result():
            yield piece

    def read(self):
        if self._body is None:
            self._body = b"".join(self.stream())
        return self._body

    @property
    def body(self):
        return self.read()

    def text(self):
        return self.read().decode()

    def json(self):
        return json.loads(self.read())


class AsyncRequest(_RequestBase):
    """Of an `async def` handler."""

    async def stream(self):
        while piece := await self._invocation.body.read():
            yield piece

    async def read(self):
        if self._body is None:
            self._body = b"".join([piece async for piece in self.stream()])
        return self._body

    async def text(self):
        return (await self.read()).decode()

    async def json(self):
        return json.loads(await self.read())


class Response:
    """`body` is str, bytes, None, or an iterator (also an async one) of str and bytes."""

    def __init__(self, body=None, status=200, headers=None):
        pairs = headers.items() if isinstance(headers, Mapping) else (headers or ())
        self.status = int(status)
        if not 200 <= self.status <= 599:
            raise ValueError(f"a response has a status from 200 to 599, not {self.status}")
        self.headers = [(str(name).lower(), str(value)) for name, value in pairs]
        has_type = any(name == "content-type" for name, _ in self.headers)
        if isinstance(body, str):
            body = body.encode()
            if not has_type:
                self.headers.append(("content-type", "text/plain; charset=utf-8"))
        elif body is None:
            body = b""
        elif isinstance(body, (bytearray, memoryview)):
            body = bytes(body)
        elif not (isinstance(body, bytes) or hasattr(body, "__aiter__") or hasattr(body, "__iter__")):
            raise TypeError(f"a response body cannot be {type(body).__name__}")
        self.body = body

    @classmethod
    def json(cls, value, status=200, headers=None):
        pairs = list(headers.items() if isinstance(headers, Mapping) else (headers or ()))
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return cls(text.encode(), status, [("content-type", "application/json"), *pairs])

    @classmethod
    def of(cls, result):
        """What a handler returned as a Response. Raises TypeError for what is none."""
        if isinstance(result, Response):
            return result
        status, headers = 200, None
        if isinstance(result, tuple) and 1 < len(result) <= 3:
            result, status, headers = (*result, None)[:3]
        if result is None:
            return cls(None, 204 if status == 200 else status, headers)
        if isinstance(result, (dict, list)):
            return cls.json(result, status, headers)
        is_stream = hasattr(result, "__aiter__") or hasattr(result, "__next__")
        if isinstance(result, (str, bytes, bytearray, memoryview)) or is_stream:
            return cls(result, status, headers)
        raise TypeError(
            f"the handler returned a value of type {type(result).__name__}; return a Response, str, bytes, dict, list or None"
        )


class _Log:
    def __init__(self, invocation):
        self._invocation = invocation

    def debug(self, message, **fields):
        self._invocation.log("debug", message, fields)

    def info(self, message, **fields):
        self._invocation.log("info", message, fields)

    def warn(self, message, **fields):
        self._invocation.log("warn", message, fields)

    def error(self, message, **fields):
        self._invocation.log("error", message, fields)


class Context:
    def __init__(self, invocation):
        self._invocation = invocation
        identity = invocation.host.identity
        self.invocation_id = invocation.head["id"]
        self.function_name = identity["function_name"]
        self.deployment = identity["deployment"]
        self.attempt = invocation.head.get("attempt", 1)
        self.traceparent = invocation.head.get("traceparent")
        self.env = os.environ
        self.log = _Log(invocation)

    @property
    def deadline(self):
        return datetime.datetime.fromtimestamp(self._invocation.head["deadlineMs"] / 1000, datetime.timezone.utc)

    def remaining_ms(self):
        return max(0, self._invocation.head["deadlineMs"] - time.time() * 1000)

    @property
    def cancelled(self):
        """The caller left or the time is over. An async handler is cancelled; an ordinary one has to look."""
        return self._invocation.cancelled is not None

    def on_cancel(self, callback):
        """`callback()` is called, in another thread than a handler's own, when the invocation is cancelled."""
        invocation = self._invocation
        invocation.host.loop.call_soon_threadsafe(self._add, invocation, callback)

    @staticmethod
    def _add(invocation, callback):
        if invocation.cancelled is None:
            invocation.on_cancel.append(callback)
        else:
            callback()

    def wait_until(self, work):
        """Keeps the invocation open for work after the answer: an awaitable, or a function that runs in a thread."""
        self._invocation.wait_until(work)
