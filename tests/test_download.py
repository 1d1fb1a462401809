"""Downloads from a real server on this machine that hangs up, lies, changes its mind or is slow."""

import hashlib
import io
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from http.client import HTTPMessage
from pathlib import Path
from urllib.request import Request

import pytest

from alexnet_cli.core.connection import Remote, WebOnly, part_of
from alexnet_cli.core.download import download
from alexnet_cli.core.errors import AlexNetError, DiskFullError, DownloadError
from alexnet_cli.core.reports import Reporter
from tests.conftest import ROOT
from tests.web import Site, site_of

CONTENT = bytes(range(256)) * 2000  # 512,000 bytes


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def site():
    """Serve CONTENT."""
    with site_of(CONTENT) as running:
        yield running


def remote_of(site: Site, content: bytes = CONTENT, *, size: bool = True) -> Remote:
    """Return the address with the checksum of a content, by hashlib itself."""
    return Remote(site.url, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content) if size else None)


def get(site: Site, path: Path, content: bytes = CONTENT, *, pauses: tuple[float, ...] = (0, 0, 0), **options) -> None:
    """Download without the long pauses."""
    download(remote_of(site, content), path, pauses=pauses, **options)


def names(folder: Path) -> list[str]:
    """Return what is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_whole_file(site, tmp_path):
    """The file is there under its name alone, asked for once and without a range."""
    get(site, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT and names(tmp_path) == ["f"]
    assert len(site.asked) == 1 and "Range" not in site.asked[0]
    assert site.asked[0]["User-Agent"].startswith("alexnet-cli/")


def test_interrupted_in_the_middle(site, tmp_path):
    """A connection that ends early is continued at the very byte, of the same version, and the file is whole."""
    site.cut = [100_000, 200_000]
    get(site, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT and names(tmp_path) == ["f"]
    assert [asked.get("Range") for asked in site.asked] == [None, "bytes=100000-", "bytes=300000-"]
    assert [asked.get("If-Range") for asked in site.asked] == [None, '"one"', '"one"']


def test_connection_dropped_each_time(site, tmp_path):
    """After the last try the error says why, how much is kept and where to put the file; the next call needs only the rest."""
    site.cut = [100_000, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"no download from 127\.0\.0\.1 in 4 tries: the connection was closed") as caught:
        get(site, tmp_path / "f")
    assert "0.1 MB are kept" in caught.value.message and site.url in caught.value.hint and str(tmp_path / "f") in caught.value.hint
    assert part_of(tmp_path / "f").read_bytes() == CONTENT[:100_000]
    get(site, tmp_path / "f")
    assert site.asked[-1]["Range"] == "bytes=100000-" and (tmp_path / "f").read_bytes() == CONTENT


def test_much_that_came_makes_the_tries_begin_anew(tmp_path, monkeypatch):
    """A line that breaks often but brings much each time is not given up."""
    monkeypatch.setattr("alexnet_cli.core.download.ENOUGH", 60_000)
    with site_of(CONTENT) as site:
        site.cut = [70_000] * 7
        get(site, tmp_path / "f", pauses=(0,))
    assert (tmp_path / "f").read_bytes() == CONTENT and len(site.asked) == 8


def test_changed_between_the_halves(site, tmp_path):
    """A file that was replaced meanwhile is taken from its beginning, not joined to the old one's first half."""
    new = CONTENT[::-1]
    site.cut = [100_000, 0]
    with pytest.raises(DownloadError):
        get(site, tmp_path / "f", pauses=(0,))
    site.content, site.etag = new, '"two"'
    get(site, tmp_path / "f", new)
    assert site.asked[-1]["If-Range"] == '"one"' and (tmp_path / "f").read_bytes() == new


def test_weak_version_is_not_asked_with(site, tmp_path):
    """A weak ETag does not stand for the bytes: the date is asked with instead."""
    site.etag, site.cut = 'W/"one"', [100_000, None]
    site.headers = {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
    get(site, tmp_path / "f")
    assert site.asked[1]["If-Range"] == "Wed, 21 Oct 2015 07:28:00 GMT" and (tmp_path / "f").read_bytes() == CONTENT


def test_server_without_ranges(site, tmp_path):
    """Where the server sends all again, the part is begun anew, not lengthened."""
    site.ranges, site.cut = False, [100_000]
    get(site, tmp_path / "f")
    assert len(site.asked) == 2 and (tmp_path / "f").read_bytes() == CONTENT


def test_server_that_says_no_length(site, tmp_path):
    """Without a length the checksum alone says whether all has come."""
    site.length = False
    download(remote_of(site, size=False), tmp_path / "f", pauses=())
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_broken_off_before_the_name(site, tmp_path):
    """A part that is whole, of a process killed before the last step, is taken without a byte more."""
    part_of(tmp_path / "f").write_bytes(CONTENT)
    download(remote_of(site, size=False), tmp_path / "f", pauses=())
    assert (tmp_path / "f").read_bytes() == CONTENT and len(site.asked) == 1
    part_of(tmp_path / "g").write_bytes(CONTENT)
    get(site, tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == CONTENT and len(site.asked) == 1


def test_part_longer_than_the_file(site, tmp_path):
    """A part that cannot be a beginning is thrown away."""
    part_of(tmp_path / "f").write_bytes(CONTENT + b"more")
    get(site, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_wrong_checksum(site, tmp_path):
    """Another content is removed, and both checksums are named."""
    wrong = b"x" + CONTENT[1:]
    with pytest.raises(DownloadError) as caught:
        get(site, tmp_path / "f", wrong)
    for content in (CONTENT, wrong):
        assert hashlib.sha256(content).hexdigest() in caught.value.message
    assert names(tmp_path) == []


def test_first_digits_and_sha1(site, tmp_path):
    """The first digits of a checksum are compared where only they are published, and SHA-1 where that is."""
    digest = hashlib.sha1(CONTENT).hexdigest()
    download(Remote(site.url, f"sha1:{digest}"), tmp_path / "f", pauses=())
    download(Remote(site.url, f"sha1:{digest[:8]}"), tmp_path / "g", pauses=())
    with pytest.raises(DownloadError, match="has the sha1"):
        download(Remote(site.url, f"sha1:{'0' * 8}"), tmp_path / "h", pauses=())
    assert names(tmp_path) == ["f", "g"]


def test_wrong_size(site, tmp_path):
    """Another size is refused before a byte is taken, and a good part stays; without a length it is found at the end."""
    part_of(tmp_path / "f").write_bytes(CONTENT[:1000])
    with pytest.raises(DownloadError, match="has 512,000 bytes, expected 512,001"):
        get(site, tmp_path / "f", CONTENT + b"x")
    assert part_of(tmp_path / "f").read_bytes() == CONTENT[:1000]
    site.length = False
    with pytest.raises(DownloadError, match="has 512,000 bytes, expected 512,001"):
        get(site, tmp_path / "g", CONTENT + b"x")
    assert names(tmp_path) == ["f.part"]


def test_web_page_instead_of_the_file(site, tmp_path):
    """The page of a network that wants a login is no file, and does not cost the part that is there."""
    part_of(tmp_path / "f").write_bytes(CONTENT[:1000])
    site.ranges, site.headers = False, {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(DownloadError, match="answers with a web page") as caught:
        download(remote_of(site, size=False), tmp_path / "f", pauses=())
    assert "login" in caught.value.hint and part_of(tmp_path / "f").read_bytes() == CONTENT[:1000]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_not_there(site, tmp_path, status):
    """What another try cannot better is said at once, with the way round it."""
    site.statuses = [status] * 9
    with pytest.raises(DownloadError, match=f"cannot be had: the server answers {status}") as caught:
        get(site, tmp_path / "f", pauses=(60,))
    assert len(site.asked) == 1 and "on another machine" in caught.value.hint and names(tmp_path) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_server_in_trouble(site, tmp_path, status):
    """What may pass is tried again."""
    site.statuses = [status, status]
    get(site, tmp_path / "f")
    assert len(site.asked) == 3 and (tmp_path / "f").read_bytes() == CONTENT


def test_pauses_are_said_and_kept(site, tmp_path):
    """Before each further try the reason and the pause are reported, and the pause is made."""
    lines = []

    class Notes(Reporter):
        def note(self, text):
            lines.append(text)

    site.statuses = [503, 500]
    begun = time.monotonic()
    get(site, tmp_path / "f", pauses=(0.1, 0.2), reporter=Notes())
    assert time.monotonic() - begun >= 0.3
    assert lines == [
        "the server answers 503 Service Unavailable; trying again in 0.1 s",
        "the server answers 500 Internal Server Error; trying again in 0.2 s",
    ]


def test_slow(site, tmp_path):
    """A server that falls silent is given up after the timeout; what a second try brings is whole."""
    silences = [1.0, 0.0]
    site.before_body = lambda: time.sleep(silences.pop(0))
    with pytest.raises(DownloadError, match="in 1 tries: no answer in time"):
        get(site, tmp_path / "f", pauses=(), timeout=0.2)
    get(site, tmp_path / "f", pauses=(), timeout=5.0)
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_nobody_there(tmp_path):
    """Without a connection the error names the host and what to do offline."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file.bin"
        with pytest.raises(DownloadError, match=r"no download from 127\.0\.0\.1 in 2 tries: Connection refused") as caught:
            download(Remote(url, "sha1:00"), tmp_path / "f", pauses=(0,))
    assert caught.value.hint == f"download {url} on another machine, put it at {tmp_path / 'f'}, and run the same command again"


def test_redirection(site, tmp_path):
    """A redirection within the web is followed."""
    site.location = "/moved"
    get(site, tmp_path / "f")
    assert [asked["path"] for asked in site.asked] == ["/file.bin", "/moved"] and (tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/f", "data:text/plain,x"])
def test_redirection_out_of_the_web(site, tmp_path, target):
    """A server cannot make the program read a file of this machine, or speak another protocol."""
    site.location = target
    with pytest.raises(DownloadError, match=f"leads to {target}, expected an address that begins with http:// or https://"):
        get(site, tmp_path / "f")
    assert names(tmp_path) == []


def test_redirection_from_https_to_http():
    """What was asked for under a certificate is not taken from a server without one."""
    target = HTTPMessage()
    target["Location"] = "http://127.0.0.1/f"
    with pytest.raises(DownloadError, match=r"leads to http://127\.0\.0\.1/f, expected an address that begins with https://"):
        WebOnly().http_error_302(Request("https://127.0.0.1/f"), io.BytesIO(), 302, "Found", target)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/f", "/etc/passwd"])
def test_address_outside_the_web(tmp_path, url):
    """Only http and https are downloads."""
    with pytest.raises(DownloadError, match="is no address for a download"):
        download(Remote(url, "sha1:00"), tmp_path / "f")


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9/ü", "http://[::1", "http://127.0.0.1:abc/x", "http://127.0.0.1:70000/x", "http://127.0.0.1:9/a b", "http:///x",
     "http://a..b/x", "http://127.0.0.1:0/x"],
)  # fmt: skip
def test_address_that_is_none(tmp_path, url):
    """What cannot be asked for at all is said at once, not tried again, with a way out."""
    with pytest.raises(DownloadError, match="is no address for a download: ") as caught:
        download(Remote(url, "sha256:00"), tmp_path / "f", pauses=(60,))
    assert url in caught.value.message and "as a browser copies it" in caught.value.hint


def test_redirection_to_no_address(site, tmp_path):
    """The same of where an answer leads."""
    for site.location in ("http://[::1", "http://127.0.0.1:abc/x"):
        with pytest.raises(DownloadError, match="is no address for a download: "):
            get(site, tmp_path / "f", pauses=(60,))


def test_proxy_of_the_environment(site, tmp_path, monkeypatch):
    """With http_proxy the whole address goes to the proxy."""
    monkeypatch.setenv("http_proxy", site.url.removesuffix("/file.bin"))
    monkeypatch.setenv("no_proxy", "")
    download(Remote("http://no.such.host.invalid/f.bin", remote_of(site).digest), tmp_path / "f", pauses=())
    assert site.asked[0]["path"] == "http://no.such.host.invalid/f.bin" and (tmp_path / "f").read_bytes() == CONTENT


def test_progress(tmp_path):
    """The bar counts megabytes, of the whole file and from where it goes on."""
    heard: list[tuple[object, ...]] = []

    class Listener(Reporter):
        def start(self, task, total, unit, *, done=0):
            heard.append((task, total, unit, done))

        def advance(self, amount=1, **figures):
            heard.append((amount,))

    content = bytes(3_000_000)
    with site_of(content) as site:
        site.cut = [1_500_000]
        get(site, tmp_path / "f", content, reporter=Listener())
    assert [line for line in heard if len(line) > 1] == [("download", 3, "MB", 0), ("download", 3, "MB", 1)]
    assert sum(int(str(line[0])) for line in heard if len(line) == 1) == 3


def test_no_room(site, small_disk):
    """More than the disk holds is refused before it begins, with both sizes."""
    site.content = bytes(4_000_000)
    with pytest.raises(DiskFullError, match=r"needs 4\.0 MB more, .* MB are free") as caught:
        get(site, small_disk / "f", site.content)
    assert "ALEXNET_CACHE" in caught.value.hint and names(small_disk) == []


def test_disk_fills_up(site, small_disk):
    """A disk that fills up in the middle is an error of ours, and the part stays."""
    site.content, site.length = bytes(4_000_000), False
    with pytest.raises(DiskFullError, match="the disk is full"):
        get(site, small_disk / "f", site.content)
    assert part_of(small_disk / "f").stat().st_size > 1_000_000


def test_write_that_is_refused(site, tmp_path):
    """The system's refusal of a write, here at a limit of a file's size, is told from the network's failures."""
    code = """
        import resource, sys
        from pathlib import Path
        from alexnet_cli.core.connection import Remote
        from alexnet_cli.core.download import download
        from alexnet_cli.core.errors import DiskFullError
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        try:
            download(Remote(sys.argv[1], "sha1:00"), Path(sys.argv[2]), pauses=(60,))
        except DiskFullError as error:
            print(error.message)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), site.url, str(tmp_path / "f")]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=30)
    assert result.stdout.startswith("the disk is full: ") and len(site.asked) == 1


def test_folder_that_cannot_be_written(site, tmp_path):
    """A place in the way is named."""
    part_of(tmp_path / "f").mkdir()
    with pytest.raises(AlexNetError, match="cannot write"):
        get(site, tmp_path / "f")


def test_ctrl_c_leaves_the_part(site, tmp_path):
    """Ctrl-C in the middle keeps what has come, and the next call takes only the rest."""
    site.content, site.cut = CONTENT, [200_000]
    code = """
        import sys
        from pathlib import Path
        from alexnet_cli.core.connection import Remote
        from alexnet_cli.core.download import download
        print("ready", flush=True)
        download(Remote(sys.argv[1], sys.argv[3]), Path(sys.argv[2]), pauses=(60,))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), site.url, str(tmp_path / "f"), remote_of(site).digest]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not (
        part_of(tmp_path / "f").exists() and part_of(tmp_path / "f").stat().st_size == 200_000
    ):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert part_of(tmp_path / "f").read_bytes() == CONTENT[:200_000]
    get(site, tmp_path / "f")
    assert site.asked[-1]["Range"] == "bytes=200000-" and (tmp_path / "f").read_bytes() == CONTENT
