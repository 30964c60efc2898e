"""The short examples run as they are, with smaller numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.mark.slow
def test_the_library_in_ten_lines(
    example: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = example("library").main(tmp_path, questions=80, test=16)
    shown = [line.split()[:2] for line in capsys.readouterr().out.splitlines() if "accuracy" in line]
    assert shown[-2:] == [["before", "accuracy"], ["after", "accuracy"]]
    assert summary["after"]["greedy"]["accuracy"] > summary["before"]["greedy"]["accuracy"]
    assert (tmp_path / "run" / "policy").is_dir()


@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
def test_a_reward_in_a_script_of_trl(example: Callable[[str], ModuleType], tmp_path: Path) -> None:
    trainer = example("trl_reward").main(steps=2, output=str(tmp_path), generations=4)
    logged = [entry for entry in trainer.state.log_history if "rewards/MajorityAgreement/mean" in entry]
    assert len(logged) == 1
    assert 0 < logged[0]["rewards/MajorityAgreement/mean"] <= 1
    assert logged[0]["reward"] == pytest.approx(logged[0]["rewards/MajorityAgreement/mean"], abs=1e-6)
    assert 0 <= logged[0]["rewards/Correctness/mean"] <= 1
