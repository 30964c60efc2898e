from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture(scope="session")
def example() -> Callable[[str], ModuleType]:
    """A function from the name of an example to the script as a module."""

    def load(name: str) -> ModuleType:
        specification = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        sys.modules[specification.name] = module  # dataclasses look their module up
        specification.loader.exec_module(module)
        return module

    return load
