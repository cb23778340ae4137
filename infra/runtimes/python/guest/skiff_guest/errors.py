"""Errors as text, without the agent's own frames."""

import os
import traceback

_OWN = os.path.dirname(__file__)


class Cancelled(Exception):
    """The caller left, or the time was over."""


def describe(error):
    """(message, stack) of anything that was raised."""
    try:
        message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    except Exception:
        message = type(error).__name__
    lines = traceback.TracebackException.from_exception(error)
    _drop_own(lines, set())
    return message, "".join(lines.format()).rstrip()


def _drop_own(lines, seen):
    if lines is None or id(lines) in seen:
        return
    seen.add(id(lines))
    kept = [frame for frame in lines.stack if not frame.filename.startswith((_OWN, "<frozen importlib"))]
    lines.stack[:] = kept
    _drop_own(lines.__cause__, seen)
    _drop_own(lines.__context__, seen)
