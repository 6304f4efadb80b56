"""A server that speaks as much of Hugging Face's protocol as a download needs."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c" * 40


class Hub:
    """Serves files by (repository, path).

    Attributes:
        files: their content.
        sums: checksums to claim in place of the true ones.
        cut_after: bytes after which connections break, once.
        asked: (method, path, range) of each request.
    """

    def __init__(self):
        self.files, self.sums, self.cut_after, self.asked = {}, {}, None, []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                self._answer(has_body=False)

            def do_GET(self):
                self._answer(has_body=True)

            def _answer(self, has_body):
                hub.asked.append((self.command, self.path, self.headers.get("Range")))
                repository, _, rest = self.path.lstrip("/").partition("/resolve/")
                key = (repository, rest.partition("/")[2])
                if key not in hub.files:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                content = hub.files[key]
                start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
                self.send_response(206 if start else 200)
                digest = hub.sums.get(key, hashlib.sha256(content).hexdigest())
                self.send_header("ETag", f'"{digest}"')
                self.send_header("X-Linked-Etag", f'"{digest}"')
                self.send_header("X-Linked-Size", str(len(content)))
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Accept-Ranges", "bytes")
                if start:
                    span = f"bytes {start}-{len(content) - 1}/{len(content)}"
                    self.send_header("Content-Range", span)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                if not has_body:
                    return
                body = content[start:]
                if hub.cut_after is not None:
                    body, hub.cut_after = body[: hub.cut_after], None
                    self.close_connection = True
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
