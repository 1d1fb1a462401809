"""The command line's contract: speed of --help, streams, exit codes, messages, settings."""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import tomli_w
from PIL import Image
from typer.testing import CliRunner

from alexnet_cli import __version__
from alexnet_cli.cli import doctor
from alexnet_cli.cli.app import app
from alexnet_cli.cli.command import describe, running
from alexnet_cli.core.config import read_config
from alexnet_cli.core.errors import AlexNetError
from tests.pictures import photo

runner = CliRunner()


def _pictures(folder: Path, *, train: int = 3, val: int = 2) -> Path:
    """Write coloured squares: two classes, `train` and `val` pictures of each."""
    for split, count in (("train", train), ("val", val)):
        for name, colour in (("blue", (10, 20, 200)), ("red", (200, 20, 10))):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (300 + index, 280), colour).save(folder / split / name / f"{index}.png")
    return folder


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Return a folder of stores made by `alexnet prepare`."""
    result = runner.invoke(app, ["prepare", str(_pictures(tmp_path / "source")), "--out", str(tmp_path / "data"), "--workers", "1"])
    assert result.exit_code == 0, result.stderr
    return tmp_path / "data"


# Start ---------------------------------------------------------------------------------------------------------------------------


def test_help_is_fast_and_free_of_torch() -> None:
    """`alexnet --help` needs less than 0.3 s of the processor and imports neither torch nor rich nor numpy."""
    assert min(_processor_seconds("--help") for _ in range(5)) < 0.3
    code = "import sys, alexnet_cli.cli.app; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "torchvision", "rich", "sklearn", "numpy"} & set(modules)


def _processor_seconds(*arguments: str) -> float:
    """Run a command; return its own time on the processor, which on an idle machine is the time that a user waits."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "alexnet_cli", *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(
    "name",
    [
        "architecture",
        "config",
        "contact_sheet",
        "curves",
        "digits",
        "download",
        "hub",
        "images",
        "metrics",
        "plot",
        "prepare",
        "public_weights",
        "recipe",
        "run_folder",
        "schedule",
        "sources",
        "specialisation",
        "specialisation_picture",
        "store",
        "verify",
    ],
)
def test_light_modules_are_free_of_torch(name: str) -> None:
    """What prepare and --print-config need is imported without torch."""
    code = f"import sys, alexnet_cli.core.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_version(flag: str) -> None:
    """The version is one line on stdout."""
    assert runner.invoke(app, [flag]).stdout == f"alexnet {__version__}\n"


# Usage errors --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare"],
        ["prepare", "x", "--format", "png"],
        ["prepare", "x", "--quality", "101"],
        ["prepare", "x", "--workers", "0"],
        ["prepare", "x", "y"],
        ["prepare", "x", "--classes", ","],
        ["prepare", "x", "--holdout", "1"],
        ["prepare", "x", "--source", "zip"],
        ["train", "--epochs", "0"],
        ["train", "--batch-size", "0"],
        ["train", "--learning-rate", "-1"],
        ["train", "--gpus", "0"],
        ["train", "--towers", "3"],
        ["train", "--init", "x", "--resume"],
        ["train", "--recipe", "caffe"],
        ["train", "--schedule", "cosine"],
        ["train", "--precision", "int8"],
        ["train", "--device", "tpu"],
        ["train", "--resume", "--auto-resume"],
        ["train", "--resume", "--init", "a"],
        ["train", "--init-layers", "conv1"],
        ["train", "--limit-steps", "0"],
        ["train", "--log-every", "0"],
        ["train", "--checkpoint-every", "often"],
        ["train", "--checkpoint-every", "0"],
        ["train", "--checkpoint-every", "0steps"],
        ["evaluate", "--crops", "5"],
        ["evaluate", "--split", "validate"],
        ["evaluate", "--split", "val,val"],
        ["evaluate", "--tune-weights", "validate"],
        ["evaluate", "--gpus", "0"],
        ["predict"],
        ["predict", "x.jpg", "--top", "0"],
        ["filters", "conv1"],
        ["info", "--classes", "1"],
        ["info", "--verify"],
        ["info", "--contact-sheet", "x.png"],
        ["info", "data", "--seed", "-1"],
        ["weights", "pull"],
        ["weights", "fetch", "bvlc"],
        ["push", "runs/a"],
        ["tarin"],
        ["--no-such-option"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    """What cannot be meant is refused before anything runs, with exit code 2 and nothing on stdout."""
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: " in result.stderr and "Error: " in result.stderr


def test_message_of_a_wrong_checkpoint_interval() -> None:
    """The refusal names both forms that are accepted."""
    result = runner.invoke(app, ["train", "--checkpoint-every", "often"], env={"COLUMNS": "200"})
    assert "'often' is neither minutes, such as 10, nor steps, such as 500steps" in result.stderr


def test_misspelt_command_is_suggested() -> None:
    """A near miss is answered with the command that was probably meant."""
    assert "Did you mean 'train'" in runner.invoke(app, ["trian"]).stderr


# Errors --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "missing"],
        ["train", "--data", "missing"],
        ["train", "--resume"],
        ["evaluate"],
        ["evaluate", "missing.safetensors"],
        ["predict", "cat.jpg"],
        ["filters"],
        ["visualize-filters"],
        ["info", "missing"],
        ["train", "--config", "missing.toml"],
    ],
    ids=" ".join,
)
def test_failure_is_an_error_line_and_exit_1(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure says `error:` on stderr, leaves stdout empty and the folder as it was, and exits with 1, without traceback."""
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith(("error: ", "hint: "))
    assert result.stderr.count("error: ") == 1 and "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_chain_without_a_run_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`alexnet evaluate` before any training names the command that is missing."""
    monkeypatch.chdir(tmp_path)
    assert runner.invoke(app, ["evaluate"]).stderr == (
        "error: no runs in runs: there is no such folder\n"
        'hint: train a network with "alexnet train", or name a weights file; "alexnet weights pull bvlc" brings one, named bvlc\n'
    )


def test_debug_adds_the_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--debug, before or behind the command, or ALEXNET_DEBUG shows where an error came from."""
    monkeypatch.chdir(tmp_path)
    for arguments, settings in (
        (["--debug", "info", "x"], {}),
        (["info", "x", "--debug"], {}),
        (["info", "x"], {"ALEXNET_DEBUG": "1"}),
    ):
        assert "Traceback" in runner.invoke(app, arguments, env=settings).stderr


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (AlexNetError("found a, expected b", hint="do c"), "found a, expected b", "do c"),
        (PermissionError(13, "Permission denied", "runs/x"), "runs/x: Permission denied", ""),
        (OSError(28, "No space left on device"), "the disk is full: ", "free some space"),
        (OutOfMemoryError("CUDA out of memory.\nmore"), "out of memory: CUDA out of memory.", "a smaller --batch-size needs less"),
        (ValueError(), "unexpected ValueError: no message", "--debug"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_error_becomes_text(error: Exception, message: str, hint: str) -> None:
    """Expected errors speak for themselves; others are named, with what to do."""
    text, advice = describe(error)
    assert text.startswith(message) and hint in advice


def test_ctrl_c_exits_with_130(tmp_path: Path) -> None:
    """Ctrl-C ends a command with one line and exit code 130."""
    result = _signalled(signal.SIGINT)
    assert (result.returncode, result.stderr) == (130, "started\nerror: interrupted\n")


def test_sigterm_exits_with_143_and_tidies_up() -> None:
    """SIGTERM unwinds a command, so that what it opened is closed, and exits with 143."""
    result = _signalled(signal.SIGTERM)
    assert (result.returncode, result.stderr) == (143, "started\n")
    assert result.stdout == "tidied\n"


def _signalled(number: int) -> subprocess.CompletedProcess[str]:
    """Send a signal to a process that sleeps inside `running`."""
    code = """
import sys, time, typer
from alexnet_cli.cli.command import running
app = typer.Typer()
@app.command()
def verb() -> None:
    with running():
        try:
            print("started", file=sys.stderr, flush=True)
            time.sleep(60)
        finally:
            print("tidied", flush=True)
app()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    first = process.stderr.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    return subprocess.CompletedProcess(process.args, process.returncode, out, first + err)


def test_sigterm_handling_ends_with_the_command() -> None:
    """A command gives back the handler of SIGTERM that it found."""
    before = signal.getsignal(signal.SIGTERM)
    with running():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_reader_that_leaves_is_no_error() -> None:
    """`alexnet info | head -1` ends without a traceback."""
    command = f"{sys.executable} -m alexnet_cli info --json | head -1"
    result = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("{\n", "")


# Streams and settings ------------------------------------------------------------------------------------------------------------


def test_prepare_reports_on_stdout_and_works_on_stderr(tmp_path: Path) -> None:
    """The summary is the result; progress goes to stderr as plain lines, and --quiet leaves the summary alone."""
    source = str(_pictures(tmp_path / "source"))
    first = runner.invoke(app, ["prepare", source, "--out", str(tmp_path / "data"), "--workers", "1"])
    assert first.exit_code == 0, first.stderr
    rows = [line.split() for line in first.stdout.splitlines()[-3:]]
    assert rows[0] == ["split", "read", "written", "rejected", "size"]
    assert [row[:4] for row in rows[1:]] == [["train", "6", "6", "0"], ["val", "4", "4", "0"]]
    assert "6/6" in first.stderr and "\x1b" not in first.output
    again = runner.invoke(app, ["--quiet", "prepare", source, "--out", str(tmp_path / "data"), "--workers", "1"])
    assert (again.exit_code, again.stderr) == (0, "")
    assert again.stdout.splitlines() == [line for line in first.stdout.splitlines() if not line.startswith("time")]


def test_part_of_a_source(tmp_path: Path) -> None:
    """Classes by id or number, pictures per class and a holdout are taken from the command line; --json tells what is there."""
    counts = {"cat": 6, "dog": 8, "eel": 4}
    for name, count in counts.items():
        (tmp_path / "source" / name).mkdir(parents=True)
        for index in range(count):
            photo(20, 20, index).save(tmp_path / "source" / name / f"{index}.png")

    def prepared(out: str, *options: str) -> list[tuple[list[str], list[int]]]:
        arguments = ["prepare", str(tmp_path / "source"), "--out", str(tmp_path / out), "--workers", "1", "--holdout", "0.5"]
        done = runner.invoke(app, [*arguments, *options])
        assert done.exit_code == 0, done.stderr
        stores = json.loads(runner.invoke(app, ["info", str(tmp_path / out), "--json"]).stdout)["stores"]
        return [(store["classes"], store["class_counts"]) for store in stores]

    assert prepared("all") == [(["cat", "dog", "eel"], [3, 4, 2])] * 2
    assert prepared("named", "--classes", "eel, cat", "--per-class", "1") == [(["cat", "eel"], [1, 1]), (["cat", "eel"], [3, 2])]
    (train, _), (val, _) = prepared("number", "--classes", "2", "--seed", "3")
    assert train == val and len(train) == 2
    again = runner.invoke(app, ["prepare", str(tmp_path / "source"), "--out", str(tmp_path / "all"), "--holdout", "0.25"])
    assert (again.exit_code, again.stderr.count("holdout 0.5 there, 0.25 now")) == (1, 1)


def test_pictures_that_cannot_be_read(tmp_path: Path) -> None:
    """They are a warning and exit code 0, or an error above the number that is borne."""
    source = _pictures(tmp_path / "source")
    next((source / "train").rglob("*.*")).write_text("no picture")
    command = ["prepare", str(source), "--out", str(tmp_path / "data"), "--workers", "1"]
    done = runner.invoke(app, command)
    assert (done.exit_code, done.stderr.count("warning: 1 of 6 pictures of train cannot be read")) == (0, 1)
    done = runner.invoke(app, [*command, "--max-rejected", "0"])
    assert (done.exit_code, done.stderr.count("error: pictures that cannot be read: 1, more than --max-rejected 0")) == (1, 1)


def test_what_the_system_refuses_to_list(tmp_path: Path) -> None:
    """A place in the source that cannot be listed, here a link to itself among the classes, is one line with a way out."""
    source = _pictures(tmp_path / "source")
    (source / "train" / "loop").symlink_to("loop")
    done = runner.invoke(app, ["prepare", str(source), "--out", str(tmp_path / "data")])
    assert done.exit_code == 1
    error = f"error: cannot read {source}/train/loop: Too many levels of symbolic links\nhint: make it readable, or move it away\n"
    assert done.stderr.endswith(error)
    assert not (tmp_path / "data").exists()


def test_data_folder_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ALEXNET_DATA stands for --out of prepare and --data of the others; the flag wins."""
    source = str(_pictures(tmp_path / "source"))
    monkeypatch.setenv("ALEXNET_DATA", str(tmp_path / "set"))
    monkeypatch.setenv("ALEXNET_WORKERS", "1")
    assert runner.invoke(app, ["prepare", source]).exit_code == 0
    assert (tmp_path / "set" / "train").is_dir()
    assert runner.invoke(app, ["prepare", source, "--out", str(tmp_path / "flag")]).exit_code == 0
    assert (tmp_path / "flag" / "train").is_dir()
    assert "missing does not exist" in runner.invoke(app, ["train"], env={"ALEXNET_DATA": "missing"}).stderr
    monkeypatch.setenv("ALEXNET_WORKERS", "none")
    assert runner.invoke(app, ["prepare", source]).exit_code == 2


def test_info_of_a_recipe_has_the_papers_numbers() -> None:
    """Without a path, info shows the network: 60,965,224 parameters and 724,406,816 multiply-adds."""
    text = runner.invoke(app, ["info"]).stdout
    assert "60,965,224" in text and "724,406,816" in text and "21,632 each way" in text and "2,048 one way" in text
    document = json.loads(runner.invoke(app, ["info", "--recipe", "small", "--classes", "10", "--json"]).stdout)
    assert document["kind"] == "recipe" and document["recipe"]["name"] == "small"
    assert document["layers"][-1]["parameters"] == 4096 * 10 + 10
    assert document["parameters"] == 60_965_224 - 990 * 4097


def test_info_of_stores(prepared: Path) -> None:
    """Info describes one store, or all of a folder, from their own meta."""
    text = runner.invoke(app, ["info", str(prepared)]).stdout
    assert "6 of 256x256, JPEG, quality 95" in text and "4 of 256x256" in text and "blue" in text
    document = json.loads(runner.invoke(app, ["info", str(prepared / "val"), "--json"]).stdout)
    assert [(store["count"], store["classes"]) for store in document["stores"]] == [(4, ["blue", "red"])]


def test_doctor_lists_what_is_there() -> None:
    """Doctor answers with one JSON document, and as text with the same."""
    document = json.loads(runner.invoke(app, ["doctor", "--json"]).stdout)
    assert document["packages"]["torch"] and document["devices"][-1]["name"] == "cpu" and document["free_disk"] > 0
    assert isinstance(document["warnings"], list)


def test_doctor_says_how_to_get_what_is_optional() -> None:
    """Packages that are not installed are named, with the one command that installs them."""
    assert doctor._missing([]) == "all installed"
    assert doctor._missing(["plot", "parquet"]) == "matplotlib, pyarrow not installed: pip install 'alexnet-cli[plot,parquet]'"


def test_doctor_says_what_was_never_tested() -> None:
    """Of devices that the project's tests have never had, and of no others, doctor says so."""
    assert doctor.list_untested(["cpu"]) == []
    found = doctor.list_untested(["cuda:0", "cuda:1", "cpu"])
    assert len(found) == 1 and found[0].startswith("cuda: ")
    assert doctor.list_untested(["mps", "cpu"])[0].startswith("mps: training, evaluate, predict and filters")


def test_doctor_warns_of_what_will_hurt() -> None:
    """A missing compiler, a missing GPU, a full disk and a small /dev/shm are each named with a remedy."""
    findings = {
        "devices": [{"name": "cpu"}],
        "compiler": None,
        "compile_problem": "no working C++ compiler",
        "free_disk": 1_000_000_000,
        "shared_memory": 64_000_000,
    }
    warnings = doctor.list_warnings(findings)
    assert [any(word in warning for warning in warnings) for word in ("g++", "no GPU", "1.0 GB", "--shm-size")] == [True] * 4
    healthy = {**findings, "devices": [{"name": "cuda:0"}], "compile_problem": "", "free_disk": 10**12, "shared_memory": 10**11}
    assert doctor.list_warnings(healthy) == []


# Settings of a training ----------------------------------------------------------------------------------------------------------


def _resolved(*arguments: str, **settings: str) -> dict[str, object]:
    result = runner.invoke(app, ["train", "--print-config", *arguments], env=settings)
    assert result.exit_code == 0, result.stderr
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder) / "printed.toml"
        printed.write_text(result.stdout)
        return read_config(printed)


def test_print_config_is_accepted_back(tmp_path: Path) -> None:
    """What --print-config prints is a file for --config that gives the same."""
    first = _resolved("--recipe", "paper", "--epochs", "3", "--seed", "7")
    (tmp_path / "mine.toml").write_text(tomli_w.dumps(first))
    assert _resolved("--config", str(tmp_path / "mine.toml")) == first
    assert (first["name"], first["epochs"], first["run"]) == ("paper", 3, {"seed": 7, "precision": "auto"})


def test_flag_over_file_over_recipe(tmp_path: Path) -> None:
    """A flag counts before the file, the file before the recipe, and the rest is the recipe's."""
    (tmp_path / "part.toml").write_text(
        'batch_size = 32\nlearning_rate = 0.5\nmirror = true\n[run]\nseed = 3\nprecision = "fp32"\n'
    )
    got = _resolved("--recipe", "small", "--config", str(tmp_path / "part.toml"), "--learning-rate", "0.25", "--no-mirror")
    assert (got["name"], got["epochs"], got["batch_size"], got["learning_rate"], got["mirror"]) == ("small", 24, 32, 0.25, False)
    assert got["run"] == {"seed": 3, "precision": "fp32"}


def test_shuffle_flag() -> None:
    """--shuffle sets the recipe's field; without it the recipe's own order counts, and there is no fourth."""
    assert [_resolved("--recipe", name)["shuffle"] for name in ("original", "paper", "small")] == ["once", "full", "full"]
    assert [_resolved("--shuffle", name)["shuffle"] for name in ("once", "full", "block")] == ["once", "full", "block"]
    assert runner.invoke(app, ["train", "--shuffle", "epoch"]).exit_code == 2


def test_set_reaches_every_kind_of_field(tmp_path: Path) -> None:
    """Numbers, texts with and without quotes, lists and parts of tables are set over the file, and come back by --config."""
    (tmp_path / "part.toml").write_text("lrn_k = 3.0\nlrn_size = 7\nlayer_rates = {conv1 = 0.5, conv2 = 0.25}\n")
    words = ["lrn_k=1", "shuffle=full", 'mean = "channel"', "milestones=[30, 60]", "channels=[48,128,192,192,128]", "mirror=false"]
    words += ["layer_rates.conv1=0", "layer_rates.fc8=10", 'activation="tanh"']
    arguments = ["--config", str(tmp_path / "part.toml"), "--schedule", "milestones", "--epochs", "90"]
    got = _resolved(*arguments, *(part for word in words for part in ("--set", word)))
    assert (got["lrn_k"], got["lrn_size"], got["shuffle"], got["mean"], got["mirror"]) == (1.0, 7, "full", "channel", False)
    assert (got["schedule"], got["milestones"], got["channels"]) == ("milestones", [30, 60], [48, 128, 192, 192, 128])
    assert got["layer_rates"] == {"conv1": 0.0, "conv2": 0.25, "fc8": 10.0}
    assert got["activation"] == "tanh"
    (tmp_path / "mine.toml").write_text(tomli_w.dumps(got))
    assert _resolved("--config", str(tmp_path / "mine.toml")) == got


def test_set_may_repeat_a_flag() -> None:
    """The same said twice is no contradiction."""
    assert _resolved("--epochs", "3", "--set", "epochs=3", "--set", "epochs = 3")["epochs"] == 3


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["lrn_kk=1"], "--set lrn_kk=1: the recipe has no field 'lrn_kk'", "did you mean lrn_k?"),
        (["learning_rates=1"], "no field 'learning_rates'", "did you mean learning_rate?"),
        (["zzz=1"], "no field 'zzz'", "shows every field there is"),
        (["seed=1"], "no field 'seed'", "use --seed"),
        (["lrn_k"], "--set lrn_k: expected FIELD=VALUE", "for example --set lrn_k=1"),
        (["=1"], "expected FIELD=VALUE", ""),
        (["lrn_k="], "'' is not a TOML value", ""),
        (["mirror=True"], "'True' is not a TOML value", "write 0.1, true"),
        (["milestones=[30"], "'[30' is not a TOML value", ""),
        (["lrn_k=1\nmomentum=2"], "is not a TOML value", ""),
        (["epochs=many"], "recipe field epochs is 'many', expected something like 91", ""),
        (["epochs.x=1"], "epochs has no parts", "set it as a whole: --set epochs=..."),
        (["layer_rates.conv9=1"], "layer_rates names unknown layers ['conv9']", ""),
        (["milestones=[30,60]"], "milestones are for schedule 'milestones', but it is 'events'", ""),
        (["epochs=5", "--epochs", "6"], "epochs is set to both 6 and 5", "say it once, by a flag or by --set"),
        (["lrn_k=1", "--set", "lrn_k=2"], "lrn_k is set to both 1 and 2", ""),
    ],
)
def test_wrong_assignments_are_refused(arguments: list[str], message: str, hint: str) -> None:
    """What --set cannot mean is refused with what was found, and the nearest name where there is one."""
    result = runner.invoke(app, ["train", "--print-config", "--set", *arguments])
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr and hint in result.stderr


def test_epochs_default_to_the_recipes() -> None:
    """Without --epochs the recipe's own number counts: 91, 90 and 24."""
    assert [_resolved("--recipe", name)["epochs"] for name in ("original", "paper", "small")] == [91, 90, 24]
    assert _resolved()["name"] == "original"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epohcs = 3\n", "has unknown fields: epohcs"),
        ("epochs = 'many'\n", "recipe field epochs is 'many', expected something like 91"),
        ("epochs = \n", "is not valid TOML"),
        ("[run]\nseed = 'x'\n", "[run] seed is 'x', expected something like 0"),
    ],
)
def test_wrong_config_is_named(text: str, message: str, tmp_path: Path) -> None:
    """A file that cannot be used is refused with what is wrong in it."""
    (tmp_path / "wrong.toml").write_text(text)
    result = runner.invoke(app, ["train", "--config", str(tmp_path / "wrong.toml")])
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr


def test_processes_and_the_runner_agree() -> None:
    """The installed command, `python -m alexnet_cli` and the app are the same."""
    module = subprocess.run([sys.executable, "-m", "alexnet_cli", "-V"], check=True, capture_output=True, text=True).stdout
    script = Path(sys.executable).with_name("alexnet")
    assert module == f"alexnet {__version__}\n"
    if script.exists():
        assert subprocess.run([script, "-V"], check=True, capture_output=True, text=True, env=dict(os.environ)).stdout == module
