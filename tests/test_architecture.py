"""The code keeps to the rooms of docs/architecture.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "rlsf"

#: Which rooms each room may import, besides itself and the shared modules.
ALLOWED: dict[str, set[str]] = {
    "tokenstats": set(),
    "answers": set(),
    "confidence": {"tokenstats", "answers"},
    "prompts": set(),
    "models": set(),
    "sampling": {"tokenstats", "models"},
    "scoring": {"tokenstats", "models", "sampling"},
    "judging": {"prompts", "models", "sampling", "scoring"},
    "preferences": {"tokenstats", "answers", "confidence"},
    "rewards": {"tokenstats", "answers", "confidence", "models", "scoring"},
    "training": {"tokenstats", "answers", "models", "sampling", "scoring", "rewards"},
    "introspection": {"prompts", "training"},
    "evaluation": {"tokenstats", "answers", "confidence", "prompts"},
    "acceptance": {"answers", "models", "prompts", "training", "evaluation"},
    "calibration": {"models", "evaluation"},
    "select": {"answers", "evaluation"},
    "audit": {"tokenstats", "answers", "confidence", "training", "evaluation"},
    "recipes": {
        *("answers", "models", "prompts", "sampling", "judging", "preferences", "training", "evaluation"),
        *("introspection", "acceptance"),
    },
    "report": {"tokenstats", "answers", "confidence", "evaluation", "recipes"},
}
ALLOWED["pipeline"] = set(ALLOWED)
ALLOWED["cli"] = set(ALLOWED) | {"demo"}
ALLOWED["demo"] = set(ALLOWED) - {"cli"}
SHARED = {"errors", "config", "files", "invisible", "linear", "traces"}


def imports_of(path: Path) -> set[str]:
    """Names directly under ``rlsf`` that a module imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("rlsf."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("rlsf.")}
    return found


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_imports_go_one_way(room: str) -> None:
    modules = sorted((SOURCE / room).rglob("*.py"))
    assert modules, f"the room {room} is empty"
    for module in modules:
        foreign = imports_of(module) - ALLOWED[room] - SHARED - {room}
        assert not foreign, f"{module.relative_to(SOURCE)} imports {sorted(foreign)}"


def test_every_package_is_a_room() -> None:
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages == set(ALLOWED)


@pytest.mark.parametrize(
    "module",
    ["rlsf", "rlsf.scoring", "rlsf.cli", "rlsf.recipes", "rlsf.answers", "rlsf.rewards", "rlsf.evaluation.config"],
)
def test_import_is_light(module: str) -> None:
    code = f"import {module}, sys; print(sorted({{'torch', 'transformers', 'trl', 'datasets'}} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
