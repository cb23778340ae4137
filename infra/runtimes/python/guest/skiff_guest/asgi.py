"""ASGI 3 applications (FastAPI, Starlette, Quart, Django …): HTTP and lifespan. Deliberately absent: WebSocket."""

import asyncio
from urllib.parse import unquote, urlsplit


class AsgiApplication:
    def __init__(self, application):
        self._application = application
        self._state = {}
        self._lifespan = None

    async def start(self):
        """Runs the application's start-up; one that does not know the lifespan protocol needs none."""
        started = asyncio.get_running_loop().create_future()
        messages = asyncio.Queue()
        messages.put_nowait({"type": "lifespan.startup"})

        async def send(message):
            if message["type"] == "lifespan.startup.failed":
                text = message.get("message") or "the application did not start"
                started.done() or started.set_exception(RuntimeError(text))
            elif message["type"] == "lifespan.startup.complete":
                started.done() or started.set_result(None)

        async def run():
            scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
            try:
                await self._application(scope, messages.get, send)
            except BaseException:
                # By the specification: an error before the answer means "not supported".
                pass
            started.done() or started.set_result(None)

        self._lifespan = asyncio.create_task(run())
        await started

    async def serve(self, invocation):
        has_ended = asyncio.Event()
        invocation.on_cancel.append(has_ended.set)

        async def receive():
            if not invocation.body.is_ended:
                data = await invocation.body.read()
                return {"type": "http.request", "body": data, "more_body": not invocation.body.is_ended}
            if receive.is_first:
                receive.is_first = False
                return {"type": "http.request", "body": b"", "more_body": False}
            await has_ended.wait()
            return {"type": "http.disconnect"}

        receive.is_first = invocation.body.is_ended

        async def send(message):
            if message["type"] == "http.response.start":
                headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in message.get("headers", ())]
                invocation.begin(message["status"], headers)
            elif message["type"] == "http.response.body":
                is_end = not message.get("more_body", False)
                await invocation.write(bytes(message.get("body", b"")), is_end)
                if is_end:
                    has_ended.set()

        await self._application(self._scope(invocation.head), receive, send)

    def _scope(self, head):
        url = urlsplit(head["url"])
        host = url.hostname or "localhost"
        scheme = url.scheme or "http"
        peer = next((value.split(",")[0].strip() for name, value in head["headers"] if name == "x-forwarded-for"), "127.0.0.1")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": head["method"],
            "scheme": scheme,
            "path": unquote(url.path),
            "raw_path": url.path.encode("latin-1", "replace"),
            "query_string": url.query.encode("latin-1", "replace"),
            "root_path": "",
            "headers": [(name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in head["headers"]],
            "client": (peer, 0),
            "server": (host, url.port or (443 if scheme == "https" else 80)),
            "state": dict(self._state),
            "extensions": {},
        }
