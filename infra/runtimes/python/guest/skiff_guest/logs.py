"""
Lines of print, of sys.stderr and of the logging module become LOG frames of the invocation in whose course they were
written. What is written to the descriptors 1 and 2 themselves is left alone: the runner reads them as plain lines.
"""

import contextvars
import io
import json
import logging
import sys
import time

from .frames import LOG_LINE_MAX

current = contextvars.ContextVar("skiff_invocation", default=None)
_PARTIAL_MAX = LOG_LINE_MAX
_STANDARD = set(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}


def encode(level, message, fields=None):
    text = str(message)
    if len(text) > LOG_LINE_MAX:
        text = f"{text[:LOG_LINE_MAX]}… ({len(text) - LOG_LINE_MAX} characters more)"
    record = {"level": level, "message": text, "atMs": int(time.time() * 1000)}
    if fields:
        encoded = json.dumps(fields, default=str, skipkeys=True)
        too_long = len(encoded) > LOG_LINE_MAX * 2
        record["fields"] = {"dropped": f"fields of {len(encoded)} characters"} if too_long else json.loads(encoded)
    return record


class LineWriter(io.TextIOBase):
    """Stands in for sys.stdout and sys.stderr."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, level, sink, original):
        self._level = level
        self._sink = sink
        self._original = original
        self._partial = {}

    @property
    def buffer(self):
        return self._original.buffer

    def fileno(self):
        return self._original.fileno()

    def writable(self):
        return True

    def write(self, text):
        invocation = current.get()
        key = id(invocation) if invocation else 0
        *lines, rest = (self._partial.pop(key, "") + text).split("\n")
        for line in lines:
            self._sink(self._level, line, None)
        if len(rest) > _PARTIAL_MAX:
            self._sink(self._level, rest, None)
        elif rest:
            self._partial[key] = rest
        return len(text)

    def end(self, invocation):
        """Writes what an invocation left without a line break."""
        rest = self._partial.pop(id(invocation), "")
        if rest:
            self._sink(self._level, rest, None)


class LogHandler(logging.Handler):
    def __init__(self, sink):
        super().__init__()
        self._sink = sink

    def emit(self, record):
        try:
            message = record.getMessage()
            if record.exc_info:
                message += "\n" + logging.Formatter().formatException(record.exc_info)
            fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
            if record.name != "root":
                fields["logger"] = record.name
            level = (
                "error" if record.levelno >= 40 else "warn" if record.levelno >= 30 else "info" if record.levelno >= 20 else "debug"
            )
            self._sink(level, message, fields)
        except Exception:
            self.handleError(record)


def capture(sink):
    """From here on everything that is printed or logged goes to sink(level, message, fields)."""
    sys.stdout = LineWriter("info", sink, sys.__stdout__)
    sys.stderr = LineWriter("error", sink, sys.__stderr__)
    root = logging.getLogger()
    root.addHandler(LogHandler(sink))
    root.setLevel(logging.INFO)


def end_lines(invocation):
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, LineWriter):
            stream.end(invocation)
