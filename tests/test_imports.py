"""The two rooms: cli over core, and inside core every import points down."""

import ast
import graphlib
from pathlib import Path

from tests.conftest import ROOT

PACKAGE = ROOT / "alexnet_cli"


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def _imported(path: Path) -> set[str]:
    """Return every module that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_core_is_a_library() -> None:
    """No module of core imports typer, rich or anything of cli, and none prints."""
    for path in (PACKAGE / "core").glob("*.py"):
        imported = _imported(path)
        assert not {name for name in imported if name.split(".")[0] in ("typer", "rich") or name.startswith("alexnet_cli.cli")}, (
            path
        )
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        assert not [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"], path


def test_imports_have_no_cycle() -> None:
    """The modules can be put in an order in which each imports only earlier ones."""
    modules = {_name(path): path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    graph = {name: _imported(path) & set(modules) for name, path in modules.items()}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(modules)


def test_third_parties_have_one_door() -> None:
    """Only the store's modules import lmdb, only the Hub's its client, only what draws matplotlib, and so on."""
    users = {
        "lmdb": {"store", "store_writer", "doctor"},
        "sklearn": {"digits"},
        "matplotlib": {"plot", "confusion", "letters", "report_svg", "specialisation_picture"},
        "faiss": {"faiss_index"},
        "onnx": {"onnx_reader", "onnx_writer", "onnx_metadata"},
        "tensorboard": {"events"},
        "huggingface_hub": {"hub"},
    }
    for path in PACKAGE.rglob("*.py"):
        for third_party, allowed in users.items():
            if any(name.split(".")[0] == third_party for name in _imported(path)):
                assert path.stem in allowed, f"{path.name} imports {third_party}"
