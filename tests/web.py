"""A real web server on this machine, in a thread, that behaves as badly as a test wants."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What the server has, how it behaves, and what it was asked.

    cut: bytes of a body after which it hangs up, for each request in turn; None sends all. statuses: answers before the good one.
    """

    content: bytes = b""
    url: str = ""
    etag: str = '"one"'
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    length: bool = True
    cut: list[int | None] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    location: str = ""
    before_body: Callable[[], object] = lambda: None
    asked: list[dict[str, str]] = field(default_factory=list)


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append({**dict(self.headers.items()), "path": self.path})
            if site.location and self.path != "/moved":
                return self._answer(302, {"Location": site.location})
            if site.statuses:
                return self._answer(site.statuses.pop(0), {"Content-Length": "0"})
            start = self._first_byte()
            if start and start >= len(site.content):
                return self._answer(416, {"Content-Range": f"bytes */{len(site.content)}", "Content-Length": "0"})
            headers = {"ETag": site.etag} if site.etag else {}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(site.content) - 1}/{len(site.content)}"
            if site.length:
                headers["Content-Length"] = str(len(site.content) - start)
            self._answer(206 if start else 200, {**headers, **site.headers})
            self.wfile.flush()
            site.before_body()
            cut = site.cut.pop(0) if site.cut else None
            self.wfile.write(site.content[start:][:cut])
            self.close_connection = True

        def _first_byte(self) -> int:
            same = self.headers.get("If-Range", site.etag) == site.etag
            asked = self.headers.get("Range", "") if site.ranges and same else ""
            return int(asked.removeprefix("bytes=").removesuffix("-") or 0)

        def _answer(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    return Handler


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Run a server with a handler; give its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that leave are what the tests are about
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def site_of(content: bytes) -> Iterator[Site]:
    """Serve one content under every path; the site tells where, and takes orders."""
    site = Site(content)
    with serving(_handler(site)) as address:
        site.url = f"{address}/file.bin"
        yield site
