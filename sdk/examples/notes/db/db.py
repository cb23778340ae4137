"""SQLite over HTTP: POST / with {"sql": "…", "values": […]} answers {"rows": [{…}], "changes": n, "id": n}."""

import json
import os
import signal
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SCHEMA = """
CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL, made TEXT NOT NULL DEFAULT (datetime()));
CREATE TABLE IF NOT EXISTS digests (id INTEGER PRIMARY KEY, notes INTEGER NOT NULL, made TEXT NOT NULL DEFAULT (datetime()));
"""

database = sqlite3.connect("/data/notes.sqlite", check_same_thread=False, isolation_level=None)
database.row_factory = sqlite3.Row
database.execute("PRAGMA journal_mode = WAL")
database.executescript(SCHEMA)
one_at_a_time = threading.Lock()


class Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200, {"sqlite": sqlite3.sqlite_version})

    def do_POST(self):
        query = json.loads(self.read_body())
        try:
            with one_at_a_time:
                cursor = database.execute(query["sql"], query.get("values", []))
                rows = [dict(row) for row in cursor.fetchall()]
        except sqlite3.Error as error:
            return self.answer(400, {"error": str(error)})
        self.answer(200, {"rows": rows, "changes": cursor.rowcount, "id": cursor.lastrowid})

    def read_body(self):
        length = self.headers["content-length"]
        if length is not None:
            return self.rfile.read(int(length))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def end(*_):
    with one_at_a_time:
        database.close()
    os._exit(0)


signal.signal(signal.SIGTERM, end)
ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Front).serve_forever()
