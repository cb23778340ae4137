"""WSGI applications (Flask, Django, Bottle …), PEP 3333, each request in a thread."""

import asyncio
import io
import sys
from urllib.parse import unquote_to_bytes, urlsplit


def serve_wsgi(application):
    async def serve(invocation):
        environ = create_environ(invocation)
        await invocation.run_in_thread(lambda: run(application, environ, invocation))

    return serve


class BodyInput(io.RawIOBase):
    """wsgi.input: reads as the body comes."""

    def __init__(self, invocation):
        self._invocation = invocation
        self._rest = b""

    def readable(self):
        return True

    def readinto(self, buffer):
        if not self._rest:
            reading = asyncio.run_coroutine_threadsafe(self._invocation.body.read(), self._invocation.host.loop)
            self._rest = reading.result()
        data = self._rest[: len(buffer)]
        self._rest = self._rest[len(data) :]
        buffer[: len(data)] = data
        return len(data)


def create_environ(invocation):
    head = invocation.head
    url = urlsplit(head["url"])
    scheme = url.scheme or "http"
    environ = {
        "REQUEST_METHOD": head["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(url.path).decode("latin-1"),
        "QUERY_STRING": url.query,
        "SERVER_NAME": url.hostname or "localhost",
        "SERVER_PORT": str(url.port or (443 if scheme == "https" else 80)),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": io.BufferedReader(BodyInput(invocation), 64 * 1024),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "REMOTE_ADDR": "127.0.0.1",
    }
    for name, value in head["headers"]:
        key = name.upper().replace("-", "_")
        if name == "x-forwarded-for":
            environ["REMOTE_ADDR"] = value.split(",")[0].strip()
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ


def run(application, environ, invocation):
    state = {"begun": None, "sent": False}

    def start_response(status, headers, exc_info=None):
        if exc_info:
            try:
                if state["sent"]:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif state["begun"]:
            raise RuntimeError("start_response() was called twice")
        state["begun"] = (int(status.split(" ", 1)[0]), [(name.lower(), value) for name, value in headers])
        return write

    def write(data):
        begin()
        if data:
            invocation.write_from_thread(data)

    def begin():
        if state["sent"]:
            return
        if state["begun"] is None:
            raise RuntimeError("the application gave a body before it called start_response()")
        state["sent"] = True
        loop = invocation.host.loop
        asyncio.run_coroutine_threadsafe(_begin(invocation, *state["begun"]), loop).result()

    result = application(environ, start_response)
    try:
        for data in result:
            if data:
                write(data)
        begin()
        invocation.write_from_thread(b"", True)
    finally:
        if hasattr(result, "close"):
            result.close()


async def _begin(invocation, status, headers):
    invocation.begin(status, headers)
