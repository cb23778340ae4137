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
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from inspect import isawaitable
from threading import Event
from urllib.parse import parse_qs, urlsplit

from skiff_guest.calls import CallError
from skiff_guest.steps import Suspended, current_step, parse_sleep, parse_span

__all__ = ["Answer", "AsyncContext", "AsyncRequest", "CallError", "Context", "Headers", "Request", "Response", "Suspended"]

_MAP_CONCURRENCY = 8
# As sdk/protocol/http.ts; a call's length and host are those of the channel.
_NOT_SENT = {"connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}


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


class Answer:
    """What another function answered, whole."""

    def __init__(self, answer):
        self.status = answer.status
        self.headers = Headers(answer.headers)
        self.body = answer.body

    @property
    def ok(self):
        return 200 <= self.status < 300

    def text(self):
        return self.body.decode()

    def json(self):
        return json.loads(self.body)


def _describe_call(path, method, headers, body, given):
    if body is not None and given is not None:
        raise TypeError("give body or json, not both")
    pairs = [(name.lower(), str(value)) for name, value in (headers.items() if isinstance(headers, Mapping) else headers or ())]
    has_type = any(name == "content-type" for name, _ in pairs)
    if given is not None:
        body = json.dumps(given, ensure_ascii=False, separators=(",", ":"))
    if isinstance(body, str):
        kind = "application/json" if given is not None else "text/plain;charset=UTF-8"
        pairs += [] if has_type else [("content-type", kind)]
        body = body.encode()
    return {
        "method": (method or ("GET" if body is None else "POST")).upper(),
        "path": path if path.startswith("/") else f"/{path}",
        "headers": [pair for pair in pairs if pair[0] not in _NOT_SENT],
        "body": bytes(body or b""),
    }


def _describe_wait(event, timeout, match):
    command = {"event": event, "timeoutMs": None if timeout is None else parse_span(timeout), "match": match}
    return {name: value for name, value in command.items() if value is not None}


def _refuse_wait(event):
    return TypeError(
        f'wait_for_event("{event}") needs an asynchronous invocation (Prefer: respond-async); this one was called '
        "directly, and its caller waits"
    )


def _pause_seconds(time_to_sleep):
    parsed = parse_sleep(time_to_sleep)
    ms = parsed["ms"] if "ms" in parsed else parsed["untilMs"] - time.time() * 1000
    return max(0, ms) / 1000


def _run_step(step, run):
    token = current_step.set(step)
    try:
        return run()
    finally:
        current_step.reset(token)


class _ContextBase:
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
        self._steps = invocation.steps

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


class Context(_ContextBase):
    """
    Of an ordinary handler. In an asynchronous invocation `step`, `map`, `sleep`, `wait_for_event` and `invoke` are
    durable: their results are stored once, and a later call of the handler passes over them. A sleep or wait that
    is not over ends this call of the handler with skiff.Suspended, a BaseException: `finally` is run, and what follows
    is done by another call. In one that somebody waits for, steps just run.
    """

    def _wait(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._invocation.host.loop).result()

    def step(self, name, run):
        """What run() returned, as JSON keeps it; it is called once for all attempts."""
        steps = self._steps
        if steps is None:
            return run()
        step, known = self._wait(steps.begin(name, "step", current_step.get()))
        try:
            return known.get("value") if known else self._wait(steps.store(step, _run_step(step, run)))
        finally:
            self._invocation.host.loop.call_soon_threadsafe(steps.leave)

    def map(self, name, items, run, concurrency=_MAP_CONCURRENCY):
        """A step `name 1`, `name 2` … for each item, some at a time, in threads."""
        with ThreadPoolExecutor(max(1, concurrency), "map") as threads:
            contexts = [(copy_context(), i, item) for i, item in enumerate(items, 1)]
            futures = [
                threads.submit(context.run, self.step, f"{name} {i}", lambda item=item: run(item))
                for context, i, item in contexts
            ]
        return [future.result() for future in futures]

    def sleep(self, time, name="sleep"):
        """"30s", "2 days", a timedelta, or until a datetime."""
        if self._steps is not None:
            self._wait(self._steps.pause(name, "sleep", parse_sleep(time), current_step.get()))
            return
        self.on_cancel((ended := Event()).set)
        if ended.wait(_pause_seconds(time)):
            raise self._invocation.cancelled

    def wait_for_event(self, event, timeout=None, match=None):
        """The data of an event of this name whose fields match; None when it does not come in time."""
        if self._steps is None:
            raise _refuse_wait(event)
        return self._wait(self._steps.pause(f"wait for {event}", "wait", _describe_wait(event, timeout, match), current_step.get()))

    def invoke(self, name, path="/", method=None, headers=None, body=None, json=None):
        """Calls another function that this one's `calls` names. Raises CallError when there is no answer."""
        call = _describe_call(path, method, headers, body, json)
        is_step = self._steps is not None and current_step.get() is None
        return Answer(self._wait(self._steps.invoke(name, call) if is_step else self._invocation.call(name, **call)))


class AsyncContext(_ContextBase):
    """The same of an `async def` handler: everything is awaited, and what a step runs may be."""

    async def step(self, name, run):
        steps = self._steps
        if steps is None:
            result = run()
            return await result if isawaitable(result) else result
        step, known = await steps.begin(name, "step", current_step.get())
        try:
            if known:
                return known.get("value")
            token = current_step.set(step)
            try:
                result = run()
                result = await result if isawaitable(result) else result
            finally:
                current_step.reset(token)
            return await steps.store(step, result)
        finally:
            steps.leave()

    async def map(self, name, items, run, concurrency=_MAP_CONCURRENCY):
        room = asyncio.Semaphore(max(1, concurrency))

        async def one(i, item):
            async with room:
                return await self.step(f"{name} {i}", lambda: run(item))

        return await asyncio.gather(*(one(i, item) for i, item in enumerate(items, 1)))

    async def sleep(self, time, name="sleep"):
        if self._steps is None:
            await asyncio.sleep(_pause_seconds(time))
        else:
            await self._steps.pause(name, "sleep", parse_sleep(time), current_step.get())

    async def wait_for_event(self, event, timeout=None, match=None):
        if self._steps is None:
            raise _refuse_wait(event)
        command = _describe_wait(event, timeout, match)
        return await self._steps.pause(f"wait for {event}", "wait", command, current_step.get())

    async def invoke(self, name, path="/", method=None, headers=None, body=None, json=None):
        call = _describe_call(path, method, headers, body, json)
        is_step = self._steps is not None and current_step.get() is None
        return Answer(await (self._steps.invoke(name, call) if is_step else self._invocation.call(name, **call)))
