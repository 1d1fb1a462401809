"""Public weights by name, from a server on this machine to a prediction, through the real command line."""

import hashlib
import json
import os
import pty
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from alexnet_cli.cli.app import app
from alexnet_cli.core import pull as pull_module
from alexnet_cli.core.checkpoint import Weights, load_weights, resolve_weights, save_weights
from alexnet_cli.core.connection import Remote
from alexnet_cli.core.errors import AlexNetError, CheckpointError, DiskFullError, DownloadError
from alexnet_cli.core.public_weights import ENTRIES, PUBLIC_WEIGHTS, PublicWeights, cache_folder, original_path, weights_path
from alexnet_cli.core.pull import pull, remove
from tests.conftest import ROOT
from tests.test_checkpoint import tiny_weights
from tests.web import site_of

runner = CliRunner()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """Keep the cache in the test's own folder, and the proxies of the environment away."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def site(tmp_path):
    """Serve a small weights file of ours, which stands for a foreign one."""
    save_weights(tmp_path / "made.safetensors", tiny_weights())
    with site_of((tmp_path / "made.safetensors").read_bytes()) as running:
        running.url = running.url.replace("file.bin", "toy.caffemodel")
        yield running


@pytest.fixture
def toy(site, monkeypatch) -> PublicWeights:
    """An entry of the table whose file the server has; its own format is one that no reader is needed for."""
    remote = Remote(site.url, f"sha256:{hashlib.sha256(site.content).hexdigest()}", len(site.content))
    entry = replace(ENTRIES[0], name="toy", remote=remote)
    monkeypatch.setitem(PUBLIC_WEIGHTS, "toy", entry)
    return entry


@pytest.fixture
def pulled(toy) -> Path:
    """The weights file of `toy`, already in the cache."""
    return pull(toy, convert=load_weights)


# The table -------------------------------------------------------------------------------------------------------------------


def test_figures_are_the_authors():
    """Names, checksums and accuracies are those of Caffe's readme files, of ONNX's model zoo and of torchvision's own table."""
    from torchvision.models import AlexNet_Weights

    assert [entry.name for entry in ENTRIES] == ["bvlc", "bvlc-onnx", "caffenet", "torchvision"]
    bvlc, _, caffenet, torchvision = ENTRIES
    assert bvlc.remote.digest == "sha1:9116a64c0fbe4459d18f4bb6b56d647b63920377" and (bvlc.top1, bvlc.top5) == (57.1, 80.2)
    assert caffenet.remote.digest == "sha1:4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46" and (caffenet.top1, caffenet.top5) == (
        57.4,
        80.4,
    )
    theirs = AlexNet_Weights.IMAGENET1K_V1
    figures = theirs.meta["_metrics"]["ImageNet-1K"]
    assert torchvision.remote.url == theirs.url and (torchvision.top1, torchvision.top5) == (figures["acc@1"], figures["acc@5"])
    promised = re.search(r"-([0-9a-f]{8})\.pth", theirs.url)
    assert promised and torchvision.remote.digest.startswith(f"sha256:{promised[1]}")
    assert torchvision.remote.num_bytes == pytest.approx(theirs.meta["_file_size"] * 2**20, rel=1e-5)


def test_where_the_cache_lies(monkeypatch, tmp_path):
    """ALEXNET_CACHE counts first, then XDG_CACHE_HOME, then the home folder."""
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("ALEXNET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert cache_folder() == Path("/some/where/alexnet")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the XDG specification calls invalid
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path("/home/me/.cache/alexnet")


# Pulling ---------------------------------------------------------------------------------------------------------------------


def test_pull_keeps_original_and_converted(toy, site, cache):
    """Both files lie in the cache, the second knows where it is from, and another call asks nobody and converts nothing."""
    path = pull(toy, convert=load_weights)
    assert sorted(file.name for file in (cache / "toy").iterdir()) == ["toy.caffemodel", "toy.safetensors"]
    weights = load_weights(path)
    assert weights.source == f"toy, {site.url}, {toy.remote.digest}"
    assert torch.equal(weights.tensors["fc8.weight"], tiny_weights().tensors["fc8.weight"])
    assert pull(toy, convert=_never) == path and len(site.asked) == 1


def _never(original: Path) -> Weights:
    raise AssertionError(f"{original} was converted again")


def test_failed_conversion_keeps_the_download(toy, site):
    """What a reader refuses is not downloaded again, and no weights file is left that would count as whole."""

    def refuse(original: Path) -> Weights:
        raise CheckpointError("not today")

    with pytest.raises(CheckpointError, match="not today"):
        pull(toy, convert=refuse)
    assert original_path(toy).is_file() and not weights_path(toy).exists()
    pull(toy, convert=load_weights)
    assert len(site.asked) == 1


def test_file_put_there_by_hand(toy, site, cache):
    """An original from another machine is taken after its check; a wrong one is named with what to do, not deleted."""
    (cache / "toy").mkdir(parents=True)
    original_path(toy).write_bytes(site.content[:-1] + b"?")
    with pytest.raises(DownloadError, match=r"has the sha256 [0-9a-f]{64}, expected ") as caught:
        pull(toy, convert=load_weights)
    assert caught.value.hint.startswith("alexnet weights remove toy") and original_path(toy).exists()
    original_path(toy).write_bytes(site.content)
    assert pull(toy, convert=load_weights).is_file() and site.asked == []


def test_another_place_of_the_same_file(toy, site):
    """--from takes any server, because the checksum stays."""
    lost = replace(toy, remote=replace(toy.remote, url="http://no.such.host.invalid/toy.caffemodel"))
    pull(lost, convert=load_weights, url=site.url)
    assert load_weights(weights_path(lost)).source.startswith("toy, http://no.such.host.invalid/")


def test_two_processes_at_once(toy, site):
    """While one pulls, another is told so and touches nothing; the first ends whole."""
    arrived, go_on = threading.Event(), threading.Event()

    def wait_in_the_middle() -> None:
        arrived.set()
        go_on.wait(20)

    site.before_body = wait_in_the_middle
    code = (
        "import sys; from alexnet_cli.core import public_weights as table; from alexnet_cli.core.connection import Remote;"
        "from alexnet_cli.core.pull import pull; from alexnet_cli.core.checkpoint import load_weights;"
        "from dataclasses import replace;"
        "pull(replace(table.ENTRIES[0], name='toy', remote=Remote(sys.argv[1], sys.argv[2])), convert=load_weights)"
    )
    first = subprocess.Popen([sys.executable, "-c", code, toy.remote.url, toy.remote.digest], cwd=ROOT, stderr=subprocess.PIPE)
    try:
        assert arrived.wait(60)
        with pytest.raises(AlexNetError, match="another process is pulling toy"):
            pull(toy, convert=load_weights)
        with pytest.raises(AlexNetError, match="another process is pulling toy"):
            remove(toy)
    finally:
        go_on.set()
        _, errors = first.communicate(timeout=60)
    assert first.returncode == 0, errors.decode()
    assert weights_path(toy).is_file() and len(site.asked) == 1


def test_no_room_for_the_converted_file(toy, small_disk, monkeypatch):
    """A disk that holds the download but not the conversion is an error, and the download stays."""
    monkeypatch.setenv("ALEXNET_CACHE", str(small_disk / "cache"))
    with pytest.raises(DiskFullError):
        pull(toy, convert=lambda original: _larger(load_weights(original)))
    assert original_path(toy).is_file() and not weights_path(toy).exists()


def _larger(weights: Weights) -> Weights:
    weights.tensors["more"] = torch.zeros(1_000_000)
    return weights


# The command line ------------------------------------------------------------------------------------------------------------


def test_list_says_what_is_here(pulled, toy, monkeypatch):
    """The table, one entry, and JSON say the same: figures, licence, and whether the file is in the cache."""
    table = runner.invoke(app, ["weights", "list"]).stdout
    assert re.search(r"^bvlc-onnx .* BSD-3-Clause +57\.1 +80\.2 +244 MB +no$", table, re.MULTILINE)
    one = runner.invoke(app, ["weights", "list", "toy"]).stdout
    assert re.search(r"^here +yes$", one, re.MULTILINE) and toy.remote.digest in one and str(pulled) in one
    document = json.loads(runner.invoke(app, ["weights", "list", "--json"]).stdout)
    assert [entry["here"] for entry in document["weights"]] == [False] * 4
    assert document["weights"][3]["top1_accuracy"] == 0.56522 and document["weights"][0]["bytes"] is None
    unknown = runner.invoke(app, ["weights", "list", "vgg"])
    assert unknown.exit_code == 1 and "error: no public weights 'vgg', expected one of bvlc, bvlc-onnx, caffenet" in unknown.stderr


def test_pull_prints_the_path_and_remove_removes(pulled, cache):
    """Stdout is the path alone, for scripts; remove deletes both files, and says so when there is nothing."""
    done = runner.invoke(app, ["weights", "pull", "toy"])
    assert (done.exit_code, done.stdout) == (0, f"{pulled}\n")
    assert json.loads(runner.invoke(app, ["weights", "pull", "toy", "--json"]).stdout)["path"] == str(pulled)
    assert "toy is removed" in runner.invoke(app, ["weights", "remove", "toy"]).stderr and not (cache / "toy").exists()
    assert "nothing of toy was here" in runner.invoke(app, ["weights", "remove", "toy"]).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["weights", "pull", "toy"],
        ["predict", "x.png", "--weights", "toy"],
        ["evaluate", "toy"],
        ["filters", "--weights", "toy"],
        ["export", "toy"],
        ["info", "toy"],
    ],
    ids=" ".join,
)
def test_nobody_to_ask(toy, site, cache, arguments):
    """Without a terminal and without --yes nothing is downloaded, and the hint is the command that does it."""
    done = runner.invoke(app, arguments)
    assert done.exit_code == 1
    assert done.stderr == "error: toy is not here, and there is no terminal to ask\nhint: alexnet weights pull toy --yes\n"
    assert site.asked == [] and not cache.exists()


@pytest.mark.parametrize(("answer", "exit_code", "requests"), [(b"y\n", 0, 1), (b"\n", 1, 0)])
def test_question_on_a_terminal(toy, site, cache, answer, exit_code, requests):
    """On a terminal the size and the place are named, and only a yes downloads."""
    code = (
        "import sys; from dataclasses import replace; from alexnet_cli.core import public_weights as table, pull;"
        "from alexnet_cli.core.connection import Remote; from alexnet_cli.core.checkpoint import load_weights;"
        "toy = replace(table.ENTRIES[0], name='toy', remote=Remote(sys.argv[1], sys.argv[2]));"
        "table.PUBLIC_WEIGHTS['toy'] = toy; pull._reader = lambda reporter: load_weights;"
        "from alexnet_cli.cli.app import app; app(['filters', '--weights', 'toy', '--out', sys.argv[3]])"
    )
    parent, child = pty.openpty()
    command = [sys.executable, "-c", code, toy.remote.url, toy.remote.digest, str(cache.parent / "filters.png")]
    environment = {**os.environ, "TERM": "xterm"}
    process = subprocess.Popen(command, stdin=child, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=environment)
    os.write(parent, answer)
    _, errors = process.communicate(timeout=60)
    os.close(parent)
    os.close(child)
    assert process.returncode == exit_code, errors.decode()
    assert f"toy is not here: download 244 MB from {site.url}? [y/N]" in errors.decode()
    assert len(site.asked) == requests and (cache.parent / "filters.png").exists() == (requests == 1)


def test_yes_pulls(toy, site, tmp_path, monkeypatch):
    """--yes downloads without a question, and the answer comes from the weights that came."""
    monkeypatch.setattr(pull_module, "_reader", lambda reporter: load_weights)
    Image.new("RGB", (256, 256), (90, 20, 200)).save(tmp_path / "x.png")
    done = runner.invoke(app, ["predict", str(tmp_path / "x.png"), "--weights", "toy", "--yes", "--json", "--device", "cpu"])
    assert done.exit_code == 0, done.stderr
    (answer,) = json.loads(done.stdout)
    assert {one["class"] for one in answer["predictions"]} == {"n01", "n02", "n03"} and len(site.asked) == 1


@pytest.mark.parametrize("arguments", [["weights", "pull", "toy"], ["weights", "pull", "toy", "--yes"], ["info", "toy", "--yes"]])
def test_no_download_of_what_cannot_be_read(toy, site, cache, monkeypatch, arguments):
    """Without the package that reads ONNX nothing is asked and nothing downloaded; the hint installs it."""
    onnx = replace(toy, remote=replace(toy.remote, url=site.url.replace("caffemodel", "onnx")))
    monkeypatch.setitem(PUBLIC_WEIGHTS, "toy", onnx)
    monkeypatch.setitem(sys.modules, "onnx", None)
    done = runner.invoke(app, arguments)
    assert done.exit_code == 1
    assert done.stderr == ("error: ONNX needs the package onnx, which is not installed\nhint: pip install 'alexnet-cli[onnx]'\n")
    assert site.asked == [] and not cache.exists()
    with pytest.raises(AlexNetError, match="ONNX needs the package"):
        pull(onnx)
    assert site.asked == []


def test_export_and_info_by_name(toy, site, tmp_path, monkeypatch):
    """Both bring public weights as the other commands do, and say of a name that is none what they expect."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pull_module, "_reader", lambda reporter: load_weights)
    done = runner.invoke(app, ["export", "toy", "--yes", "--quiet"])
    assert (done.exit_code, done.stdout) == (0, "alexnet.onnx\n") and len(site.asked) == 1
    done = runner.invoke(app, ["info", "toy", "--json"])
    assert json.loads(done.stdout)["path"] == str(weights_path(toy)) and len(site.asked) == 1
    done = runner.invoke(app, ["info", "no-such-name"])
    assert done.exit_code == 1 and "no-such-name does not exist, expected a store" in done.stderr


def test_name_in_the_cache(pulled, tmp_path):
    """Once pulled, a name works everywhere that weights are named; a run or file of that name goes first."""
    assert resolve_weights("toy", tmp_path / "runs") == pulled
    (tmp_path / "runs" / "toy").mkdir(parents=True)
    save_weights(tmp_path / "runs" / "toy" / "best.safetensors", tiny_weights(1))
    assert resolve_weights("toy", tmp_path / "runs") == tmp_path / "runs" / "toy" / "best.safetensors"


def test_name_that_is_not_here_yet(toy, tmp_path):
    """The library, which never asks, says which command brings the file."""
    with pytest.raises(CheckpointError, match="toy is not here: no ") as caught:
        resolve_weights("toy", tmp_path / "runs")
    assert caught.value.hint == "alexnet weights pull toy"


def test_no_weights_at_all(tmp_path):
    """Where there is none, both ways to some are named."""
    done = runner.invoke(app, ["predict", "x.png", "--runs", str(tmp_path / "runs")])
    assert done.exit_code == 1 and '"alexnet train"' in done.stderr and '"alexnet weights pull bvlc"' in done.stderr


def test_init_from_a_public_name_under_torchrun(toy, site, tmp_path, monkeypatch):
    """Of many ranks none downloads: each would meet the others in the cache."""
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    done = runner.invoke(app, ["train", "--init", "toy", "--yes", "--data", str(tmp_path), "--runs", str(tmp_path / "runs")])
    assert done.exit_code == 1 and "hint: alexnet weights pull toy" in done.stderr and site.asked == []


# The whole chain -------------------------------------------------------------------------------------------------------------


def test_torchvision_from_server_to_answer(tmp_path, monkeypatch):
    """A file like torchvision's is pulled, converted, and names a picture as torchvision itself does."""
    pytest.importorskip("alexnet_cli.core.foreign")
    import torchvision

    torch.manual_seed(3)
    network = torchvision.models.alexnet().eval()
    torch.save(network.state_dict(), tmp_path / "alexnet.pth")
    content = (tmp_path / "alexnet.pth").read_bytes()
    picture = torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8).numpy()
    Image.fromarray(picture).resize((256, 256), Image.Resampling.NEAREST).save(tmp_path / "x.png")
    with site_of(content) as site:
        url = site.url.replace("file.bin", "alexnet.pth")
        entry = replace(PUBLIC_WEIGHTS["torchvision"], name="toy", remote=Remote(url, f"sha1:{hashlib.sha1(content).hexdigest()}"))
        monkeypatch.setitem(PUBLIC_WEIGHTS, "toy", entry)
        done = runner.invoke(
            app,
            [
                "predict",
                str(tmp_path / "x.png"),
                *["--weights", "toy", "--yes", "--json", "--crops", "1", "--top", "1000", "--device", "cpu"],
            ],
        )
    assert done.exit_code == 0, done.stderr
    (answer,) = json.loads(done.stdout)
    found = sorted(one["probability"] for one in answer["predictions"])
    prepare = torchvision.models.AlexNet_Weights.IMAGENET1K_V1.transforms()
    with torch.inference_mode():
        expected = network(prepare(Image.open(tmp_path / "x.png"))[None]).softmax(1)[0]
    assert found == pytest.approx(sorted(expected.tolist()), rel=1e-3)
