"""
Durable steps of one asynchronous invocation, as sdk/guest/steps has them: a step's function is not run when its result
is stored, and what is returned is what was stored. A step that raises stores nothing. All of it lives on the loop's
thread, but what a step runs. The protocol: sdk/protocol/workflow/steps.ts.
"""

import asyncio
import base64
import contextvars
import datetime
import json
import re

from .calls import Answer

TARGET = "$steps"
NAME_LENGTH_MAX = 128
RESULT_BYTES_MAX = 256 * 1024
# For what a function does between two steps without being told to.
MOMENT_S = 0.005

current_step = contextvars.ContextVar("skiff-step", default=None)


class Suspended(BaseException):
    """The invocation sleeps or waits: this call of the handler ends here, and another one goes on after it."""


class Steps:
    def __init__(self, invocation):
        self._invocation = invocation
        self._loop = invocation.host.loop
        self._counts = {}
        self._stored = None
        self._running = 0
        self._waiting = []
        self._timer = None
        self._is_suspended = False

    # A step in three parts, so that its function may run in another thread: begin, run, store or leave.

    async def begin(self, name, kind, outer):
        """(name of the step, stored entry or None). It runs from here to `leave`."""
        if self._is_suspended:
            raise Suspended
        step = self._name(name, outer)
        self._running += 1
        try:
            return step, await self._find(step, kind)
        except BaseException:
            self.leave()
            raise

    def leave(self):
        self._running -= 1
        self._look()

    async def store(self, step, value):
        """What is stored now."""
        try:
            text = json.dumps(value, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise TypeError(f'the result of step "{step}" is not JSON: {error}') from None
        size = len(text.encode())
        if size > RESULT_BYTES_MAX:
            raise TypeError(
                f'the result of step "{step}" has {size} bytes as JSON; the limit is {RESULT_BYTES_MAX}: '
                "store it elsewhere and return where it is"
            )
        answer = await self._ask({"op": "store", "step": step, "value": value})
        return answer["steps"][step].get("value")

    async def pause(self, name, kind, command, outer):
        """Sleeps or waits; raises Suspended when the time is not over yet and nothing else runs."""
        step, known = await self.begin(name, kind, outer)
        try:
            entry = known or (await self._ask({"op": kind, "step": step, **command}))["steps"][step]
        finally:
            self.leave()
        if not entry.get("isPending"):
            return entry.get("value")
        future = self._loop.create_future()
        self._waiting.append(future)
        self._look()
        return await future

    async def invoke(self, target, call):
        """A call of another function. Answers from 500 on are not stored: the next attempt asks again."""
        step, known = await self.begin(f"invoke {target}", "step", None)
        try:
            if known:
                return _restore(known["value"])
            answer = await self._invocation.call(target, **call)
            # With base64, head and a name it must fit a step.
            if answer.status >= 500 or len(answer.body) > RESULT_BYTES_MAX // 2:
                return answer
            body = base64.b64encode(answer.body).decode()
            value = {"status": answer.status, "headers": answer.headers, "body": body}
            return _restore(await self.store(step, value))
        finally:
            self.leave()

    def _name(self, name, outer):
        """The n-th step of one name is `name #n`: loops need no names of their own."""
        if not isinstance(name, str) or not 0 < len(name) <= NAME_LENGTH_MAX:
            raise TypeError(f"a step's name is a text of 1 to {NAME_LENGTH_MAX} characters, not {name!r}")
        if outer is not None:
            raise TypeError(f'step "{name}" is inside step "{outer}"; a step cannot have steps of its own')
        count = self._counts[name] = self._counts.get(name, 0) + 1
        return name if count == 1 else f"{name} #{count}"

    async def _find(self, step, kind):
        if self._stored is None:
            self._stored = self._loop.create_task(self._ask({"op": "load"}))
        known = (await asyncio.shield(self._stored))["steps"].get(step)
        if known and known["kind"] != kind:
            raise TypeError(
                f'step "{step}" was stored as a {known["kind"]} and is a {kind} now; '
                "give steps names that stay when code changes"
            )
        return known

    async def _ask(self, command):
        answer = await self._invocation.call(TARGET, "POST", "/", [], json.dumps(command).encode())
        return json.loads(answer.body)

    def _look(self):
        """It is suspended when something sleeps or waits, no step runs, and none has begun for a moment."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting and self._running == 0 and not self._is_suspended:
            self._timer = self._loop.call_later(MOMENT_S, self._suspend)

    def _suspend(self):
        self._is_suspended = True
        self._invocation.suspend()
        self.cancel(Suspended())

    def cancel(self, error):
        """Nothing is waited for any more."""
        for future in self._waiting:
            if not future.done():
                future.set_exception(error)


def _restore(stored):
    return Answer(stored["status"], stored["headers"], base64.b64decode(stored["body"]))


_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_WORDS = (
    ("ms", r"milliseconds?|msecs?|ms"),
    ("s", r"seconds?|secs?|s"),
    ("m", r"minutes?|mins?|m"),
    ("h", r"hours?|hrs?|h"),
    ("d", r"days?|d"),
    ("w", r"weeks?|w"),
)
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:" + "|".join(f"(?P<{unit}>{words})" for unit, words in _WORDS) + r")(?![a-z])")


def parse_span(time):
    """Milliseconds of "30s", "2 days" or a timedelta. Numbers are refused: nobody could tell their unit."""
    if isinstance(time, datetime.timedelta):
        return max(0, round(time.total_seconds() * 1000))
    text = time.lower().strip() if isinstance(time, str) else ""
    total, at = 0.0, 0
    while part := _PART.match(text, at):
        total += float(part[1]) * _UNITS[part.lastgroup]
        at = part.end()
    if not text or at != len(text):
        raise TypeError(f'{time!r} is not a time; write "30s", "2 days" or a timedelta')
    return round(total)


def parse_sleep(time):
    if not isinstance(time, datetime.datetime):
        return {"ms": parse_span(time)}
    return {"untilMs": max(0, round(time.timestamp() * 1000))}
