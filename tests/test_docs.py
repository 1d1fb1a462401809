"""The documents say what the program does: commands, options, departures from the paper, links."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from alexnet_cli.cli.app import app
from tests.conftest import ROOT

GROUP: Any = typer.main.get_command(app)


def _all_commands(group: Any, before: str = "") -> dict[str, Any]:
    """Return the commands by name, those of a group under it as "weights pull"."""
    found = {}
    for name, command in group.commands.items():
        found[f"{before}{name}"] = command
        if hasattr(command, "commands"):
            found |= _all_commands(command, f"{before}{name} ")
    return found


COMMANDS = _all_commands(GROUP)
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def _options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("-")}


def _page_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_has_help(name: str) -> None:
    """Each command and each of its parameters has a help text that ends in a full stop, and stands in docs/cli.md."""
    command = COMMANDS[name]
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert f"## alexnet {name}\n" in page
    assert command.help
    for parameter in command.params:
        assert parameter.help and parameter.help.endswith("."), f"{name} {parameter.name}"
        assert all(option in page for option in parameter.opts if option.startswith("--"))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_shows_its_default(name: str) -> None:
    """Every option that takes a value shows in the help what holds without it."""
    context = typer.Context(COMMANDS[name], info_name=name)
    for parameter in COMMANDS[name].params:
        flag = getattr(parameter, "is_flag", False)
        if not flag and not parameter.required:
            _, text = parameter.get_help_record(context)
            assert "default: " in text, f"{name} {parameter.name}"


def test_reference_is_up_to_date() -> None:
    """docs/cli.md is what `make docs` writes now, whatever the terminal's width and a user's settings."""
    settings = {"COLUMNS": "43", "ALEXNET_DATA": "elsewhere", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, str(ROOT / "docs" / "generate_cli.py"), "--check"]
    result = subprocess.run(command, check=False, capture_output=True, text=True, env=settings, cwd=ROOT)
    assert result.returncode == 0, result.stderr


def test_departures_are_recorded() -> None:
    """Every departure marked in the code has its line in docs/decisions.md, and every line its mark."""
    mark = re.compile(r"DEPARTS ([a-z0-9][a-z0-9-]*)")
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "alexnet_cli").rglob("*.py"))
    decisions = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    assert set(mark.findall(sources)) == set(mark.findall(decisions))


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_commands_in_documents_exist(page: Path) -> None:
    """Every `alexnet` and `make` line in a code block names a command, and options, that exist."""
    for line in _shell_lines(page.read_text(encoding="utf-8")):
        for words in _invocations(line, "alexnet"):
            command = GROUP
            for word in words:
                if word.startswith("-") or not hasattr(command, "commands"):
                    break
                command = command.commands.get(word)
                assert command is not None, f"no such command: {line}"
            used = {word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
            assert used <= _options(command) | {"--help", "-h"}, line
        for words in _invocations(line, "make"):
            targets = [word for word in words if "=" not in word]
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert all(re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE) for target in targets), line


def _shell_lines(text: str) -> list[str]:
    blocks = re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line.strip().removeprefix("$ ") for line in joined.splitlines()]


def _invocations(line: str, program: str) -> list[list[str]]:
    """Return the arguments of each call of a program in a shell line."""
    parts = re.split(r"&&|\|\||[|;]", line)
    try:
        calls = [shlex.split(part, comments=True) for part in parts]
    except ValueError:  # prose or output, no command
        return []
    calls = [[word for word in call if not re.fullmatch(r"[A-Z_]+=\S*", word)] for call in calls]
    return [call[1:] for call in calls if call and call[0] == program and "[OPTIONS]" not in call]


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a document leads to a file of the project."""
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
