"""How the official SDK gets over failures: a proxy that answers 502 twice, and more requests than the limits allow.

    python retries.py ready.json
"""

import concurrent.futures
import http.client
import http.server
import json
import sys
import threading
import urllib.parse

from m3ter import M3ter


class Proxy(http.server.ThreadingHTTPServer):
    """Passes requests on, but for the first `failures` to paths with `word`."""

    def __init__(self, target, word, failures):
        super().__init__(("127.0.0.1", 0), Handler)
        self.target = urllib.parse.urlsplit(target)
        self.word = word
        self.failures = failures
        self.counts = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self.server_port}{self.target.path}"


class Handler(http.server.BaseHTTPRequestHandler):
    def forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.word in self.path:
            self.server.counts.append(self.headers.get("x-stainless-retry-count"))
            if len(self.server.counts) <= self.server.failures:
                self.answer(502, b'{"message":"Bad Gateway"}')
                return
        connection = http.client.HTTPConnection(self.server.target.netloc, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "accept-encoding")}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        self.answer(answer.status, answer.read())
        connection.close()

    do_GET = do_POST = do_PUT = do_DELETE = forward

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main(ready_file):
    with open(ready_file) as file:
        ready = json.load(file)["m3ter"]
    settings = {name: ready[name] for name in ("api_key", "api_secret", "org_id")}

    proxy = Proxy(ready["base_url"], "/products", 2)
    client = M3ter(base_url=proxy.base_url, **settings)
    assert client.products.list().data
    assert proxy.counts == ["0", "1", "2"], proxy.counts
    proxy.shutdown()
    print("two failures of a gateway: the third attempt succeeds")

    client = M3ter(base_url=ready["base_url"], max_retries=10, **settings)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: len(client.products.list().data), range(150)))
    assert all(found), found
    print("150 requests at once: all succeed within the limits")


if __name__ == "__main__":
    main(*sys.argv[1:])
