"""`def handler(request, ctx)` and `async def handler(request, ctx)`."""

import inspect

from skiff import AsyncContext, AsyncRequest, Context, Request, Response


def call_handler(handler):
    is_async = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)
    arity = count_parameters(handler)

    async def serve(invocation):
        context = (AsyncContext if is_async else Context)(invocation)
        request = (AsyncRequest if is_async else Request)(invocation)
        arguments = (request, context)[:arity]
        if is_async:
            result = await handler(*arguments)
        else:
            result = await invocation.run_in_thread(lambda: handler(*arguments))
            if inspect.isawaitable(result):
                result = await result
        await answer(invocation, Response.of(result))

    return serve


def count_parameters(handler):
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        return 2
    if any(one.kind == one.VAR_POSITIONAL for one in parameters):
        return 2
    return min(2, sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in parameters))


async def answer(invocation, response):
    invocation.begin(response.status, response.headers)
    body = response.body
    if isinstance(body, bytes):
        await invocation.write(body, True)
    elif hasattr(body, "__aiter__"):
        async for piece in body:
            await invocation.write(to_bytes(piece))
        await invocation.write(b"", True)
    else:
        await invocation.run_in_thread(lambda: pump(invocation, body))


def pump(invocation, body):
    """In a thread, since the next piece of an ordinary iterator may take its time."""
    try:
        for piece in body:
            invocation.write_from_thread(to_bytes(piece))
        invocation.write_from_thread(b"", True)
    finally:
        close = getattr(body, "close", None)
        if close:
            close()


def to_bytes(piece):
    if isinstance(piece, str):
        return piece.encode()
    if isinstance(piece, (bytes, bytearray, memoryview)):
        return bytes(piece)
    raise TypeError(f"a response body gave {type(piece).__name__}; it must give bytes or str")
