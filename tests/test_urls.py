import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from alexnet_cli.core import urls
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.errors import ImageError
from alexnet_cli.core.predict import Failure, Model, Prediction
from alexnet_cli.core.urls import fetch
from tests.pictures import photo, saved
from tests.test_predict import tiny_weights

PICTURE = saved(photo(20, 10), "JPEG")


class Handler(BaseHTTPRequestHandler):
    """Answers as a path asks it to."""

    def do_GET(self) -> None:
        """Serve a picture or some mischief."""
        with contextlib.suppress(OSError):  # the client has had enough
            getattr(self, self.path.strip("/").split(".")[0].replace("%20", "_"))()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def _head(self, code: int = 200, length: int | None = None, **more: str) -> None:
        self.send_response(code)
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def good(self) -> None:
        self._head(length=len(PICTURE))
        self.wfile.write(PICTURE)

    def a_b(self) -> None:
        self.good()

    def mislabelled(self) -> None:
        self._head(Content_Type="text/plain")
        self.wfile.write(PICTURE)

    def page(self) -> None:
        self._head(Content_Type="text/html; charset=utf-8")
        self.wfile.write(b"<html>not a picture</html>")

    def missing(self) -> None:
        self.send_error(404)

    def moved(self) -> None:
        self._head(302, Location="/good")

    def clear(self) -> None:
        self._head(302, Location=f"http://{self.headers['Host']}/good")

    def elsewhere(self) -> None:
        self._head(302, Location="file:///etc/passwd")

    def ftp(self) -> None:
        self._head(302, Location="ftp://localhost/x.jpg")

    def round(self) -> None:
        self._head(302, Location="/round")

    def silent(self) -> None:
        time.sleep(1.5)

    def drip(self) -> None:
        self._head()
        for _ in range(40):
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.05)

    def slow_headers(self) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\n")
        for sign in b"X-Long: " + b"x" * 60:
            self.wfile.write(bytes([sign]))
            self.wfile.flush()
            time.sleep(0.05)

    def endless(self) -> None:
        self._head()
        while True:
            self.wfile.write(bytes(10_000))

    def huge(self) -> None:
        self._head(length=1 << 40)

    def cut(self) -> None:
        self._head(length=1000)
        self.wfile.write(PICTURE[:100])


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A real server on this machine; returns its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """Keep a proxy of this machine out of it."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.parametrize("path", ["good.jpg", "moved", "mislabelled", "a b"])
def test_a_picture_is_fetched(server, path):
    """The bytes come as they are: directly, after a redirection, called a text, and from an address with a blank."""
    assert fetch(f"{server}/{path}") == PICTURE


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing", r"^the server answered 404 Not Found$"),
        ("page", r"^not a picture: the server sent text/html$"),
        ("elsewhere", r"^not followed: .* leads to file:///etc/passwd, expected an address that begins with http:// or https://$"),
        ("ftp", r"^not followed: .* leads to ftp://localhost/x.jpg, expected an address that begins with http:// or https://$"),
        ("round", r"^the server answered 302 .*infinite loop"),
        ("silent", r"^no answer within 0.2 seconds$"),
        ("drip", r"^too slow: [0-9]+ bytes in 0.3 seconds$"),
        ("endless", r"^too large: more than 100,000 bytes$"),
        ("huge", r"^too large: 1,099,511,627,776 bytes, more than 100,000$"),
        ("cut", r"^cut short: 100 of 1,000 bytes came$"),
    ],
)
def test_mischief_has_a_reason(server, path, reason):
    """Whatever a server does instead of sending a picture ends soon, with one line that says what."""
    began = time.monotonic()
    with pytest.raises(ImageError, match=reason) as raised:
        fetch(f"{server}/{path}", largest=100_000, patience=0.2, deadline=0.3)
    assert "\n" not in raised.value.message
    assert time.monotonic() - began < 5


def test_dripping_headers_end_at_the_deadline(server):
    """A server that sends its headers sign by sign, each within the patience, is given up at the deadline and not at their end."""
    began = time.monotonic()
    with pytest.raises(ImageError, match=r"^too slow: .* in 0.3 seconds$"):
        fetch(f"{server}/slow_headers", patience=2, deadline=0.3)
    assert time.monotonic() - began < 1.5  # the headers take 3.4 seconds


def test_https_does_not_lead_to_http(server, monkeypatch):
    """An address that begins with https is never fetched in the clear: a redirection to http is refused with its reason."""
    monkeypatch.setattr(urls, "_SecureConnection", urls._Connection)  # a server without a certificate will do
    assert fetch(f"{server}/good".replace("http:", "https:")) == PICTURE
    with pytest.raises(ImageError, match=r"^not followed: .* leads to http://.*, expected an address that begins with https://$"):
        fetch(f"{server}/clear".replace("http:", "https:"))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x.jpg", "http://", "http://[bad", "http://a:b:c/", "http://127.0.0.1:99999/"])
def test_addresses_that_lead_nowhere(url):
    """An address without a server, and a malformed one, are refused with a reason."""
    with pytest.raises(ImageError, match=r"cannot be fetched: \w"):
        fetch(url)


def test_addresses_are_pictures_like_others(server):
    """Among pictures an address is answered, and a bad one is a failure in its place, which does not stop the rest."""
    urls = [f"{server}/good.jpg", f"{server}/missing", f"{server}/moved"]
    answers = Model(tiny_weights(), torch.device("cpu"), Precision("fp32")).predict(urls, crops=1)
    assert [answer.path for answer in answers] == urls
    assert [type(answer) for answer in answers] == [Prediction, Failure, Prediction]
    assert isinstance(answers[1], Failure) and answers[1].reason == "the server answered 404 Not Found"
