# Runs inside the install sandbox, on the sandbox's own Python. pip can only speak to a TCP port: this gives it one on
# the loopback of the sandbox's empty network and passes its bytes to the unix socket that is the only way out. Then it
# runs pip, compiles what pip installed, and ends as pip ended.
# Arguments: path of pip's wheel, path of the socket, folder of the packages, pip's arguments; {port} is replaced.
import compileall
import os
import py_compile
import socket
import subprocess
import sys
import threading

wheel, channel, target, *arguments = sys.argv[1:]


def pass_on(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        sink.close()


def serve(listener):
    while True:
        near, _ = listener.accept()
        far = socket.socket(socket.AF_UNIX)
        far.connect(channel)
        for pair in ((near, far), (far, near)):
            threading.Thread(target=pass_on, args=pair, daemon=True).start()


listener = socket.create_server(("127.0.0.1", 0))
port = str(listener.getsockname()[1])
threading.Thread(target=serve, args=(listener,), daemon=True).start()
os.makedirs(target, exist_ok=True)
command = [sys.executable, "-I", os.path.join(wheel, "pip"), *(one.replace("{port}", port) for one in arguments)]
code = subprocess.run(command, check=False).returncode
if code == 0:
    # Files that another version of Python was meant for do not compile, and are not loaded either.
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(target, quiet=2, invalidation_mode=mode, stripdir=target, prependdir="/var/task/.packages")
sys.exit(code)
