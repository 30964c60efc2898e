from __future__ import annotations

from pathlib import Path

import pytest
from mistakes import Fails, Succeeds

from rlsf.cli.app import USER_ERROR, execute


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """A function that runs a command line, expects it to fail in one line, and returns the line."""

    def run(*arguments: str | Path) -> str:
        assert execute([str(argument) for argument in arguments]) == USER_ERROR
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rlsf: ")]
        assert len(lines) == 1
        return lines[0].removeprefix("rlsf: ")

    return run


@pytest.fixture
def succeeds(capsys: pytest.CaptureFixture[str]) -> Succeeds:
    """A function that runs a command line, expects it to succeed, and returns what it printed."""

    def run(*arguments: str | Path) -> str:
        assert execute([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out

    return run
