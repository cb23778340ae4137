"""Imports a function's module and finds what serves in it: a handler, an ASGI or a WSGI application."""

import importlib
import importlib.util
import inspect
import os
import sys

from .asgi import AsgiApplication
from .plain import call_handler
from .wsgi import serve_wsgi

TASK_DIR = "/var/task"
NAMES = ("handler", "app", "application", "api")


async def load_handler(entry):
    """The coroutine function that serves one invocation. Runs the module; raises what it raises."""
    module = import_module(entry)
    for name in NAMES:
        found = getattr(module, name, None)
        if callable(found) and not inspect.ismodule(found):
            return await adapt(found, name)
    raise TypeError(
        f"{os.path.basename(entry)} has no handler; write \"def handler(request, ctx)\", or name an ASGI or WSGI "
        f"application \"app\""
    )


def import_module(entry):
    root = os.path.dirname(entry)
    if entry.startswith(TASK_DIR + "/"):
        root = TASK_DIR
    for folder in (os.path.join(root, ".packages"), root):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    name = os.path.relpath(entry, root).removesuffix(".py").replace("/", ".")
    if all(part.isidentifier() for part in name.split(".")):
        # By its name, so that modules that import each other get this one and not a second copy.
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location("function", entry)
    module = importlib.util.module_from_spec(spec)
    sys.modules["function"] = module
    spec.loader.exec_module(module)
    return module


async def adapt(found, name):
    if name == "handler" and not is_application(found):
        return call_handler(found)
    call = found if inspect.isroutine(found) else type(found).__call__
    if inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(found):
        application = AsgiApplication(found)
        await application.start()
        return application.serve
    return serve_wsgi(found)


def is_application(found):
    """A handler that is named "handler" but takes (scope, receive, send) or (environ, start_response)."""
    try:
        names = list(inspect.signature(found).parameters)
    except (TypeError, ValueError):
        return False
    return names in (["scope", "receive", "send"], ["environ", "start_response"])
