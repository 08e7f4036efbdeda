"""The shape of the code: sizes of modules and functions, and who may import what from outside."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
APP_MODULES = sorted((ROOT / "app").rglob("*.py"))
OUR_MODULES = APP_MODULES + sorted((ROOT / "training").rglob("*.py"))
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 40
TORCH_ALLOWED = ("app/validation/record.py", "app/validation/reference/", "app/bench/torch_peers.py")


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imported(tree: ast.Module) -> set[str]:
    """Top-level names of every import, also of those inside functions."""
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in names}


def _line_counts(tree: ast.Module) -> dict[str, int]:
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {f"{node.name}:{node.lineno}": (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}


def test_the_walk_finds_the_code():
    assert ROOT / "app" / "cli" / "main.py" in APP_MODULES


@pytest.mark.parametrize("path", OUR_MODULES, ids=_name)
def test_modules_stay_readable(path: Path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_MODULE_LINES


@pytest.mark.parametrize("path", OUR_MODULES, ids=_name)
def test_functions_stay_short(path: Path):
    too_long = {name: lines for name, lines in _line_counts(_tree(path)).items() if lines > MAX_FUNCTION_LINES}
    assert not too_long


@pytest.mark.parametrize("path", APP_MODULES, ids=_name)
def test_qt_stays_in_the_window(path: Path):
    if not _name(path).startswith("app/gui/"):
        assert not _imported(_tree(path)) & {"PySide6", "shiboken6"}


@pytest.mark.parametrize("path", APP_MODULES, ids=_name)
def test_torch_stays_in_the_reference(path: Path):
    if not _name(path).startswith(TORCH_ALLOWED):
        assert not _imported(_tree(path)) & {"torch", "transformers", "peft", "torchaudio", "torchvision"}


@pytest.mark.parametrize("path", APP_MODULES, ids=_name)
def test_modules_and_public_names_are_described(path: Path):
    tree = _tree(path)
    assert ast.get_docstring(tree) or not tree.body
