"""Write docs/cli.md from the commands' own help, or with --check say whether it is up to date.

python docs/generate_cli.py [--check]
"""

import sys
from pathlib import Path
from typing import Any

import typer

from alexnet_cli.cli.app import app

PAGE = Path(__file__).with_name("cli.md")
INTRODUCTION = """# The command line

Written by `make docs` from the commands' help; do not edit.

Results go to stdout, notes, progress, warnings and errors to stderr. Where progress goes to a file or a pipe, the bar becomes
a line at the start, one every half minute, and one at the end. Colours respect `NO_COLOR`.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed; `error:` and `hint:` on stderr say why and what to do |
| 2 | wrong usage |
| 130 | stopped by Ctrl-C; `train` has saved |
| 143 | stopped by SIGTERM; `train` has saved |
"""


def reference() -> str:
    """Return the page: every command with its usage, its help and its options, whatever the terminal's width."""
    group: Any = typer.main.get_command(app)
    root = typer.Context(group, info_name="alexnet", **group.context_settings)
    return "\n".join([INTRODUCTION, *sections(group, root)])


def sections(command: Any, context: typer.Context) -> list[str]:
    """Return the parts of a command and of the commands under it."""
    parts = [section(command, context)]
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        below = command.get_command(context, name)
        parts += sections(below, typer.Context(below, info_name=name, parent=context))
    return parts


def section(command: Any, context: typer.Context) -> str:
    """Return one command's part of the page."""
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [f"## {context.command_path}", "", "```", usage, "```", "", _paragraphs(command.help or ""), ""]
    records = [record for parameter in command.get_params(context) if (record := parameter.get_help_record(context))]
    lines += ["| option | what it does |", "|---|---|"]
    lines += [f"| `{_cell(name)}` | {_cell(text)} |" for name, text in records]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    """Write the page, or with --check exit with 1 where it is out of date."""
    text = reference()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        sys.exit(f"error: {PAGE.name} is not what the commands' help says\nhint: make docs")


if __name__ == "__main__":
    main()
