"""The Hub's real client against a server on this machine that imitates the few addresses which it uses."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from alexnet_cli.core.checkpoint import load_weights, save_weights
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.hub import Reference, fetch, parse_reference
from tests.conftest import ROOT
from tests.test_checkpoint import tiny_weights
from tests.web import serving

pytest.importorskip("huggingface_hub")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_the_tests"


@dataclass
class Hub:
    """Repositories as {name: {path: content}}, what was asked for in them, and which must not be had."""

    address: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    read_only: bool = False
    uploads: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._resolve()

        def do_GET(self) -> None:
            self._resolve()

        def do_PUT(self) -> None:
            hub.requests.append(f"PUT {self.path}")
            hub.uploads[self.path.rsplit("/", 1)[-1]] = self._body()
            self._answer(200)

        def do_POST(self) -> None:
            hub.requests.append(f"POST {self.path}")
            body = self._body()
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self._json(401, {"error": "Invalid username or password."})
            if hub.read_only:
                return self._json(403, {"error": "Forbidden"})
            if self.path == "/api/repos/create":
                return self._create(json.loads(body))
            if self.path == "/api/validate-yaml":
                return self._json(200, {"errors": [], "warnings": []})
            if "/preupload/" in self.path:
                return self._json(200, {"files": [self._mode(file["path"]) for file in json.loads(body)["files"]]})
            if self.path.endswith(".git/info/lfs/objects/batch"):
                return self._json(200, {"transfer": "basic", "objects": [self._place(one) for one in json.loads(body)["objects"]]})
            if "/commit/" in self.path:
                return self._commit([json.loads(line) for line in body.splitlines()])
            self._json(404, {"error": "Not Found"})

        def _create(self, asked: dict[str, Any]) -> None:
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            known = name in hub.files
            hub.files.setdefault(name, {})
            if not known:
                hub.private[name] = asked.get("visibility") == "private" or asked.get("private") is True
            self._json(409 if known else 200, {"url": f"{hub.address}/{name}", "name": name})

        def _mode(self, path: str) -> dict[str, Any]:
            return {"path": path, "uploadMode": "lfs" if path.endswith(".safetensors") else "regular", "shouldIgnore": False}

        def _place(self, asked: dict[str, Any]) -> dict[str, Any]:
            return {**asked, "actions": {"upload": {"href": f"{hub.address}/storage/{asked['oid']}"}}}

        def _commit(self, lines: list[dict[str, Any]]) -> None:
            repo = "/".join(self.path.split("/")[3:5])
            for line in lines:
                value = line["value"]
                if line["key"] == "lfsFile":
                    hub.files[repo][value["path"]] = hub.uploads[value["oid"]]
                elif line["key"] == "file":
                    hub.files[repo][value["path"]] = base64.b64decode(value["content"])
            self._json(200, {"commitUrl": f"{hub.address}/{repo}/commit/{COMMIT}", "commitOid": COMMIT})

        def _resolve(self) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
            repo, revision, path = found.groups() if found else ("", "", "")
            if repo in hub.gated:
                return self._answer(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})
            if repo not in hub.files or (hub.private.get(repo) and "Authorization" not in self.headers):
                return self._answer(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
            if revision not in ("main", "v1", COMMIT):
                return self._answer(404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
            if path not in hub.files[repo]:
                return self._answer(404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
            content = hub.files[repo][path]
            headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
            self._answer(200, headers, content)

        def _json(self, status: int, document: Any) -> None:
            self._answer(status, {"Content-Type": "application/json"}, json.dumps(document).encode())

        def _answer(self, status: int, headers: dict[str, str] | None = None, content: bytes = b"") -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    return Handler


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Run the imitation."""
    state = Hub()
    with serving(_handler(state)) as address:
        state.address = address
        yield state


@pytest.fixture
def weights_file(tmp_path) -> Path:
    """A small weights file."""
    save_weights(tmp_path / "mine.safetensors", tiny_weights())
    return tmp_path / "mine.safetensors"


def alexnet(hub: Hub, folder: Path, *arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return in_python(hub, folder, "-m", "alexnet_cli", *arguments, **settings)


def in_python(hub: Hub, folder: Path, *arguments: object, token: str = TOKEN, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a process of its own: the client reads its settings once, when it is imported."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_") and "proxy" not in name.lower()}
    environment |= {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    environment |= {"HF_TOKEN": token} if token else {}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**environment, **settings},
        timeout=120,
    )


def filters(hub: Hub, folder: Path, address: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Let a command take weights from the Hub."""
    return alexnet(hub, folder, "filters", "--weights", address, "--out", folder / "filters.png", **settings)


def fetched(hub: Hub, folder: Path, address: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Fetch with the library alone, which needs no torch."""
    return _in_library(hub, folder, "hub.fetch(hub.parse_reference(sys.argv[1]))", address, **settings)


def push(hub: Hub, path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Push to me/net with the library alone."""
    return _in_library(hub, path.parent, "hub.push(Path(sys.argv[1]), 'me/net', 'card')", path, **settings)


def _in_library(hub: Hub, folder: Path, call: str, argument: object, **settings: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; from pathlib import Path; from alexnet_cli.core import errors, hub\n"
        f"try: {call}\n"
        "except errors.AlexNetError as error: sys.exit(f'{error.message}\\n{error.hint}')"
    )
    return in_python(hub, folder, "-c", code, argument, **settings)


# Addresses -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf://me/net", Reference("me/net", None, "model.safetensors")),
        ("hf://me/net@v1", Reference("me/net", "v1", "model.safetensors")),
        ("hf://me/net/a/best.safetensors", Reference("me/net", None, "a/best.safetensors")),
        ("hf://me/net@v1/best.safetensors", Reference("me/net", "v1", "best.safetensors")),
        ("hf://me/net@refs/pr/1/best.safetensors", Reference("me/net", "refs/pr/1", "best.safetensors")),
    ],
)
def test_address(text, expected):
    """Owner, name, revision and file are told apart."""
    assert parse_reference(text) == expected


@pytest.mark.parametrize("text", ["hf://", "hf://net", "hf://me/", "hf:///net", "hf://me/net@", "hf://me/net@v1/"])
def test_address_that_is_none(text):
    """What is incomplete is refused with the form that is expected."""
    with pytest.raises(AlexNetError, match="expected hf://owner/name"):
        parse_reference(text)


# There and back --------------------------------------------------------------------------------------------------------------


def test_pushed_and_fetched(hub, weights_file, tmp_path):
    """What is pushed is a repository with the very file and a card; hf:// gives it back, the second time without its content."""
    arguments = ("push", weights_file, "me/net", "--yes", "--license", "cc0-1.0", "--dataset", "digits")
    done = alexnet(hub, tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (0, f"{hub.address}/me/net\n"), done.stderr
    assert hub.files["me/net"]["model.safetensors"] == weights_file.read_bytes() and hub.private["me/net"] is False
    assert set(hub.files["me/net"]) == {"model.safetensors", "README.md"}
    _check_card(hub.files["me/net"]["README.md"].decode())
    for revision in ("", "@v1"):
        done = filters(hub, tmp_path, f"hf://me/net{revision}")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "filters.png").is_file()
    assert len([line for line in hub.requests if line.startswith("GET ") and "model.safetensors" in line]) == 1


def _check_card(card: str) -> None:
    import yaml

    _, header, text = card.split("---\n", 2)
    fields = yaml.safe_load(header)
    assert (fields["license"], fields["library_name"], fields["pipeline_tag"]) == ("cc0-1.0", "alexnet-cli", "image-classification")
    assert "alexnet" in fields["tags"] and fields["metrics"] == ["accuracy"]
    (model,) = fields["model-index"]
    (result,) = model["results"]
    assert model["name"] == "net" and result["dataset"]["name"] == "digits"
    assert [metric["value"] for metric in result["metrics"]] == [0.952]  # the file's error is 0.048
    for said in ("| recipe | tiny |", "| classes | 3 |", "10 epochs, 110 steps", "95.20 %", "--weights hf://me/net", "word, n01 é"):
        assert said in text


def test_card_of_the_owner_stays(hub, weights_file, tmp_path):
    """A card that somebody has written is not overwritten, the weights are; without figures there is no model-index."""
    hub.files["me/net"] = {"README.md": b"mine", "model.safetensors": b"old"}
    done = alexnet(hub, tmp_path, "push", weights_file, "me/net", "--yes")
    assert done.returncode == 0, done.stderr
    assert hub.files["me/net"] == {"README.md": b"mine", "model.safetensors": weights_file.read_bytes()}
    assert "the card of me/net stays as it is" in done.stderr


def test_private(hub, weights_file, tmp_path):
    """--private makes a private repository, which needs the token to be read; the card names no licence that nobody chose."""
    assert alexnet(hub, tmp_path, "push", weights_file, "me/net", "--yes", "--private").returncode == 0
    assert hub.private["me/net"] and "license" not in hub.files["me/net"]["README.md"].decode()
    assert filters(hub, tmp_path, "hf://me/net").returncode == 0
    done = filters(hub, tmp_path / "other", "hf://me/net", token="")
    assert done.returncode == 1 and "error: no repository me/net on the Hub, or it is private" in done.stderr


# What goes wrong -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "message", "hint"),
    [
        ("hf://me/none", "no repository me/none on the Hub, or it is private", "hf auth login"),
        ("hf://me/gated", "me/gated is gated", "ask for it at http://127.0.0.1"),
        ("hf://me/net@v9", "me/net has no revision v9", "/me/net/tree/main"),
        ("hf://me/net/best.safetensors", "me/net has no file best.safetensors", "/me/net/tree/main"),
        ("hf://me..x/net", "me..x/net is no name of a repository", ""),
    ],
)
def test_cannot_be_fetched(hub, tmp_path, address, message, hint):
    """Each reason why there is nothing to have is named, with what to do."""
    hub.files, hub.gated = {"me/net": {}, "me/gated": {}}, {"me/gated"}
    done = fetched(hub, tmp_path, address)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert message in done.stderr and hint in done.stderr


def test_info_of_an_address(hub, weights_file, tmp_path):
    """The command info shows what lies at an address on the Hub."""
    hub.files = {"me/net": {"model.safetensors": weights_file.read_bytes()}}
    done = alexnet(hub, tmp_path, "info", "hf://me/net", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["classes"] == ["n01", "n02", "n03"], done.stderr


def test_push_of_a_name(hub, weights_file, tmp_path):
    """The command push takes a file of the Hub as any other command does."""
    hub.files = {"me/net": {"model.safetensors": weights_file.read_bytes()}}
    done = alexnet(hub, tmp_path, "push", "hf://me/net", "me/copy", "--yes")
    assert done.returncode == 0, done.stderr
    assert hub.files["me/copy"]["model.safetensors"] == weights_file.read_bytes()


def test_file_of_another_program(hub, tmp_path):
    """What the Hub gives is read with the same care as any file."""
    hub.files = {"me/net": {"model.safetensors": save({"x": torch.zeros(1)})}}
    done = filters(hub, tmp_path, "hf://me/net")
    assert done.returncode == 1 and "is a safetensors file of another program" in done.stderr


def test_not_logged_in(hub, weights_file, tmp_path):
    """Without a token nothing is asked of the server; a token that does not count, or may not write, is told apart."""
    done = push(hub, weights_file, token="")
    assert done.returncode == 1 and "not logged in to the Hub\nlog in with" in done.stderr and hub.requests == []
    done = push(hub, weights_file, token="hf_wrong")
    assert done.returncode == 1 and "the Hub does not accept the token" in done.stderr
    hub.read_only = True
    done = push(hub, weights_file)
    assert done.returncode == 1 and "the token may not write to me/net" in done.stderr


def test_push_asks(hub, weights_file, tmp_path):
    """Without a terminal and without --yes nothing is published."""
    done = alexnet(hub, tmp_path, "push", weights_file, "me/net")
    assert done.returncode == 1 and "hint: add --yes" in done.stderr and hub.requests == []


def test_offline(hub, weights_file, tmp_path):
    """Without a connection, or told to have none, both ways say so; what is in the cache still serves."""
    hub.files["me/net"] = {"model.safetensors": weights_file.read_bytes()}
    assert fetched(hub, tmp_path, "hf://me/net").returncode == 0
    assert fetched(hub, tmp_path, "hf://me/net", HF_HUB_OFFLINE="1").returncode == 0
    unreachable = "the Hub cannot be reached for me/net"
    assert unreachable in fetched(hub, tmp_path / "empty", "hf://me/net", HF_HUB_OFFLINE="1").stderr
    for settings in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        done = push(hub, weights_file, **settings)
        assert done.returncode == 1 and unreachable in done.stderr


def test_missing_extra(monkeypatch):
    """Without huggingface_hub the error says what to install."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(AlexNetError, match="huggingface_hub, which is not installed") as caught:
        fetch(parse_reference("hf://me/net"))
    assert caught.value.hint == "pip install 'alexnet-cli[hub]'"


def test_source_survives_a_saving(tmp_path):
    """A weights file keeps whose weights they are, and one that was trained here has no such line."""
    weights = tiny_weights()
    save_weights(tmp_path / "own.safetensors", weights)
    assert (
        load_weights(tmp_path / "own.safetensors").source == "" and b'"source"' not in (tmp_path / "own.safetensors").read_bytes()
    )
    weights.source = "théirs"
    save_weights(tmp_path / "theirs.safetensors", weights)
    assert load_weights(tmp_path / "theirs.safetensors").source == "théirs"
