"""
One invocation: request frames in, the handler's answer out. running -> answered (RESPONSE with END, or ERROR) ->
settled (handler, body and every wait_until have ended). Exactly one END leaves for each REQUEST; SETTLED is last.
All of it lives on the loop's thread; handler threads come in through the methods that say so.
"""

import asyncio
import contextvars
import inspect

from . import frames, logs
from .body import Body
from .errors import Cancelled, describe
from .steps import Steps, Suspended

# The answer of an invocation that sleeps or waits (sdk/protocol/workflow/steps.ts).
SUSPENDED_STATUS = 202
SUSPENDED_HEADER = "skiff-suspended"
# How long a head waits for the first piece of its body, so that both leave in one frame.
HEAD_WAIT_S = 0.002


class Invocation:
    def __init__(self, host, stream, head, first, is_end):
        self.host = host
        self.stream = stream
        self.head = head
        self.body = Body(self._grant)
        self.body.push(first)
        if is_end:
            self.body.end()
        self.cancelled = None
        self.on_cancel = []
        self.is_settled = False
        self._pending = 1
        self._credit = frames.WINDOW_BYTES
        self._credit_wait = None
        self._head = None
        self._head_timer = None
        self._has_head_left = False
        self._is_answered = False
        self._task = None
        # Absent in an invocation that somebody waits for.
        self.steps = Steps(self) if head.get("isDurable") else None

    def start(self):
        context = contextvars.copy_context()
        context.run(logs.current.set, self)
        self._task = self.host.loop.create_task(self._run(), context=context)

    async def _run(self):
        try:
            await self.host.handler(self)
            if not self._is_answered:
                raise TypeError("the handler ended without an answer")
        except (SystemExit, KeyboardInterrupt) as error:
            self.host.exit(error.code if isinstance(error.code, int) else 1)
        except asyncio.CancelledError:
            if not self.cancelled:
                self._fail(Cancelled("the handler was cancelled"))
        except Suspended:
            pass
        except Cancelled as error:
            self._fail(error)
        except BaseException as error:
            self._fail(error)
        finally:
            self.release()

    def _fail(self, error):
        message, stack = describe(error)
        self._answer_error("handler_error", message, stack)

    def _answer_error(self, cause, message, stack=None):
        if self._is_answered:
            return
        self._is_answered = True
        failure = {"cause": cause, "message": message, "started": True}
        if stack is not None:
            failure["stack"] = stack
        self.host.send(frames.encode_json(frames.ERROR | frames.END, self.stream, failure))

    # The answer.

    def begin(self, status, headers):
        """Status and headers; they leave with the first piece of the body, or a moment later."""
        if self._head is not None:
            raise RuntimeError("the answer has begun already")
        head = frames.dump({"status": status, "headers": headers})
        if len(head) > frames.HEAD_BYTES_MAX:
            raise ValueError(f"the response headers have {len(head)} bytes; the limit is {frames.HEAD_BYTES_MAX}")
        self._head = head
        self._head_timer = self.host.loop.call_later(HEAD_WAIT_S, self._send_head)

    def _send_head(self, data=b"", is_end=False):
        if self._has_head_left or self._is_answered:
            return
        self._has_head_left = True
        self._head_timer.cancel()
        self._credit -= len(data)
        kind = frames.RESPONSE | (frames.END if is_end else 0)
        self.host.send(frames.encode(kind, self.stream, frames.encode_head(self._head, data)))

    def suspend(self):
        """Answers that it sleeps or waits."""
        if self._is_answered or self.is_settled:
            return
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._is_answered = True
        head = frames.dump({"status": SUSPENDED_STATUS, "headers": [[SUSPENDED_HEADER, "1"]]})
        self.host.send(frames.encode(frames.RESPONSE | frames.END, self.stream, frames.encode_head(head)))

    async def call(self, target, method, path, headers, body):
        """Calls another function; its whole answer."""
        if self.host.calls is None:
            raise RuntimeError("there are no other functions here; deploy this one, or run `skiff dev`")
        if self.is_settled:
            raise RuntimeError("the invocation has ended; it can make no calls any more")
        return await self.host.calls.open(self.stream, target, method, path, headers, body)

    async def write(self, data, is_end=False):
        """A piece of the body; waits while the other side has no room."""
        if self._head is None:
            raise RuntimeError("a body before status and headers")
        if self.cancelled:
            raise self.cancelled
        if self._is_answered:
            raise RuntimeError("the answer has ended already")
        if self.head["method"] == "HEAD":
            data = b""
        if not self._has_head_left:
            if len(data) <= min(frames.DATA_BYTES_MAX, self._credit):
                if data or is_end:
                    self._send_head(data, is_end)
                    self._is_answered = is_end
                return
            self._send_head()
        view = memoryview(data)
        while view:
            while self._credit == 0:
                self._credit_wait = self.host.loop.create_future()
                await self._credit_wait
                if self.cancelled:
                    raise self.cancelled
            piece = view[: min(frames.DATA_BYTES_MAX, self._credit)]
            view = view[len(piece) :]
            self._credit -= len(piece)
            is_last = is_end and not view
            self._is_answered = is_last
            self.host.send(frames.encode(frames.DATA | (frames.END if is_last else 0), self.stream, bytes(piece)))
            if self.host.is_congested():
                await self.host.drained()
        if is_end and not self._is_answered:
            self._is_answered = True
            self.host.send(frames.encode(frames.DATA | frames.END, self.stream))

    def write_from_thread(self, data, is_end=False):
        asyncio.run_coroutine_threadsafe(self.write(data, is_end), self.host.loop).result()

    # From the runner.

    def push(self, data, is_end):
        self.body.push(data)
        if is_end:
            self.body.end()

    def grant(self, granted):
        self._credit += granted
        self._wake()

    def cancel(self, reason):
        """Answers at once; the handler is told and may take its time to settle."""
        if self.cancelled or self.is_settled:
            return
        self.cancelled = Cancelled(f"the invocation was cancelled: {reason}")
        self.body.fail(self.cancelled)
        self._wake()
        if self.host.calls is not None:
            self.host.calls.end_of(self.stream)
        if self.steps is not None:
            self.steps.cancel(self.cancelled)
        self._answer_error("timeout" if reason == "timeout" else "platform", f"cancelled: {reason}")
        callbacks, self.on_cancel = self.on_cancel, []
        for callback in callbacks:
            self.host.loop.create_task(self._call_back(callback))
        if self._task is not None:
            self._task.cancel()

    async def _call_back(self, callback):
        logs.current.set(self)
        try:
            callback()
        except Exception as error:
            self.log("error", f"a cancel callback failed: {describe(error)[1]}")

    def _wake(self):
        if self._credit_wait is not None and not self._credit_wait.done():
            self._credit_wait.set_result(None)

    def _grant(self, taken):
        if not self._is_answered:
            self.host.send(frames.encode(frames.WINDOW, self.stream, frames.encode_window(taken)))

    # What it waits for.

    async def run_in_thread(self, function):
        """Runs in a handler thread; the invocation is not settled before it has ended, also when it is cancelled."""
        self._pending += 1
        context = contextvars.copy_context()
        future = self.host.threads.submit(context.run, function)
        future.add_done_callback(lambda _: self.host.loop.call_soon_threadsafe(self.release))
        return await asyncio.wrap_future(future)

    def wait_until(self, work):
        """From any thread. `work` is awaitable, or a function to be called in a thread."""
        if self.is_settled:
            raise RuntimeError("wait_until() was called after the invocation had ended")
        if not (inspect.isawaitable(work) or callable(work)):
            raise TypeError("wait_until() takes an awaitable or a function")
        context = contextvars.copy_context()
        self.host.loop.call_soon_threadsafe(self._wait_until, work, context)

    def _wait_until(self, work, context):
        self._pending += 1
        self.host.loop.create_task(self._finish(work), context=context)

    async def _finish(self, work):
        try:
            if inspect.isawaitable(work):
                await work
            else:
                result = await self.run_in_thread(work)
                if inspect.isawaitable(result):
                    await result
        except BaseException as error:
            self.log("error", f"work given to wait_until() failed: {describe(error)[1]}")
        finally:
            self.release()

    def release(self):
        self._pending -= 1
        if self._pending > 0:
            return
        logs.end_lines(self)
        self.is_settled = True
        self.body.discard()
        if self.host.calls is not None:
            self.host.calls.end_of(self.stream)
        self.host.send(frames.encode(frames.SETTLED, self.stream))
        self.host.settled(self)

    def log(self, level, message, fields=None):
        self.host.log(self.stream, level, message, fields)
