"""
The wire format of sdk/protocol/frame.ts: u32le length | u8 type | u32le stream | payload, where length counts all
after itself and the type's high bit, END, says that nothing more comes from this side on this stream.
"""

import json
import struct

END = 0x80
HELLO, LOAD, LOADED, REQUEST, DATA, RESPONSE, CANCEL, WINDOW, LOG, ERROR, SETTLED, PING, PONG = range(1, 14)
CALL, CALL_DATA, CALL_RESPONSE, CALL_WINDOW, CALL_CANCEL, CALL_ERROR = range(15, 21)

PROTOCOL = 1
FRAME_BYTES_MAX = 1024 * 1024
WINDOW_BYTES = 256 * 1024
DATA_BYTES_MAX = 64 * 1024
HEAD_BYTES_MAX = 32 * 1024
LOG_LINE_MAX = 16 * 1024

_HEADER = struct.Struct("<IBI")
_U32 = struct.Struct("<I")


class FrameError(Exception):
    """The peer broke the protocol: it cannot be trusted any more."""


def encode(kind, stream, payload=b""):
    return _HEADER.pack(len(payload) + 5, kind, stream) + payload


def encode_json(kind, stream, value):
    return encode(kind, stream, dump(value))


def dump(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def encode_head(head, body=b""):
    return _U32.pack(len(head)) + head + body


def parse_head(payload):
    if len(payload) < 4:
        raise FrameError("a head frame without a length")
    (length,) = _U32.unpack_from(payload)
    if length > len(payload) - 4:
        raise FrameError("a head that is longer than its frame")
    return parse_json(payload[4 : 4 + length]), payload[4 + length :]


def parse_json(payload):
    try:
        return json.loads(payload)
    except ValueError:
        raise FrameError("a payload that is not JSON") from None


def parse_window(payload):
    if len(payload) != 4:
        raise FrameError(f"WINDOW of {len(payload)} bytes; it has 4")
    return _U32.unpack(payload)[0]


def encode_window(bytes_granted):
    return _U32.pack(bytes_granted)


class Reader:
    """Turns chunks of bytes into calls of on_frame(type, is_end, stream, payload)."""

    def __init__(self, on_frame):
        self._on_frame = on_frame
        self._pending = bytearray()

    def push(self, chunk):
        pending = self._pending
        pending += chunk
        offset = 0
        while len(pending) - offset >= 9:
            length, kind, stream = _HEADER.unpack_from(pending, offset)
            if length < 5 or length > FRAME_BYTES_MAX:
                raise FrameError(f"a frame of length {length}")
            if len(pending) - offset < 4 + length:
                break
            payload = bytes(pending[offset + 9 : offset + 4 + length])
            offset += 4 + length
            self._on_frame(kind & ~END, kind & END != 0, stream, payload)
        del pending[:offset]
