"""
The agent inside a Python sandbox. As a stem it warms itself, says HELLO on its channel and waits to be given a
function; it serves that one until the channel closes. Without a channel (an ordinary `docker run -p 8080:8080`) it
serves the image's function over HTTP.
"""

import asyncio
import os
import signal
import sys
import threading

from skiff_guest import frames, logs
from skiff_guest.errors import describe
from skiff_guest.guest import Guest

CHANNEL = os.environ.get("SKIFF_CHANNEL", "/run/skiff/channel.sock")


async def serve_channel():
    loop = asyncio.get_running_loop()
    guest = Guest(loop)
    watch_crashes(loop, guest)
    await warm_up(loop)
    logs.capture(guest.log_current)
    await loop.create_unix_connection(lambda: guest, CHANNEL)
    loop.add_signal_handler(signal.SIGTERM, guest.drain)
    await loop.create_future()


async def warm_up(loop):
    """Invocations of its own through the whole request path: a stem has all the time in the world, a caller has not."""
    from skiff_guest.plain import call_handler

    guest = Guest(loop)
    done = asyncio.Event()
    guest._flush = lambda: guest._out.clear()
    guest.settled = lambda _: done.set()
    head = {"id": "inv-warm", "method": "POST", "url": "http://warm.invalid/?a=1", "headers": [["accept", "*/*"]], "deadlineMs": 0}
    guest.identity = {"function_name": "warm-up", "deployment": "warm-up"}
    from concurrent.futures import ThreadPoolExecutor

    guest.threads = ThreadPoolExecutor(1)

    async def asynchronous(request, ctx):
        return {"query": request.query, "body": await request.json(), "left": ctx.remaining_ms()}

    for handler in (lambda request, ctx: [request.text(), str(ctx.deadline)], asynchronous):
        guest.handler = call_handler(handler)
        for _ in range(20):
            done.clear()
            payload = frames.encode_head(frames.dump(head), b'{"a":1}')
            guest.data_received(frames.encode(frames.REQUEST | frames.END, 1, payload))
            await done.wait()
            guest.invocations.clear()
    guest.threads.shutdown()


def watch_crashes(loop, guest):
    def on_loop_error(_, context):
        error = context.get("exception")
        guest.log(0, "error", describe(error)[1] if error else context.get("message", "unknown error"))

    def on_thread_error(arguments):
        if arguments.exc_type is not SystemExit:
            guest.log(0, "error", f"uncaught error in a thread: {describe(arguments.exc_value)[1]}")

    loop.set_exception_handler(on_loop_error)
    threading.excepthook = on_thread_error


def main():
    if os.path.exists(CHANNEL):
        asyncio.run(serve_channel())
    else:
        from skiff_guest.http_bridge import serve_http

        asyncio.run(serve_http())


try:
    main()
except Exception as error:
    sys.__stderr__.write(f"skiff guest: {describe(error)[1]}\n")
    sys.exit(1)
