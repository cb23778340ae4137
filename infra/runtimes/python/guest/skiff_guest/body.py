"""The body of a request as it arrives. Credit is granted when bytes are taken: a slow handler holds the client back."""

import asyncio
from collections import deque

from .frames import WINDOW_BYTES, FrameError

GRANT_BYTES_MIN = WINDOW_BYTES // 2


class Body:
    """Used on the loop's thread only; RequestBase in skiff.py reads it from handler threads."""

    def __init__(self, grant):
        self._grant = grant
        self._chunks = deque()
        self._is_ended = False
        self._is_discarded = False
        self._failure = None
        self._wake = None
        self._credit = WINDOW_BYTES
        self._taken = 0

    def push(self, data):
        self._credit -= len(data)
        if self._credit < 0:
            raise FrameError(f"a request body that exceeds its window by {-self._credit} bytes")
        if data and not self._is_discarded:
            self._chunks.append(data)
            self._wake_up()

    def end(self):
        self._is_ended = True
        self._wake_up()

    def fail(self, error):
        if not self._is_ended:
            self._failure = error
            self._wake_up()

    def discard(self):
        self._is_discarded = True
        self._chunks.clear()

    def try_collect(self):
        """The whole body when it is here already."""
        if not self._is_ended or self._failure:
            return None
        data = b"".join(self._chunks)
        self._chunks.clear()
        return data

    async def read(self):
        """The next piece; empty at the end."""
        while not self._chunks:
            if self._failure:
                raise self._failure
            if self._is_ended:
                return b""
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        data = self._chunks.popleft()
        self._taken += len(data)
        if not self._is_ended and self._taken >= GRANT_BYTES_MIN:
            self._credit += self._taken
            self._grant(self._taken)
            self._taken = 0
        return data

    @property
    def is_ended(self):
        return self._is_ended and not self._chunks

    def _wake_up(self):
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
