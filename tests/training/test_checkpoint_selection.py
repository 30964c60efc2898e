"""Label-free selection: which step is kept, when training stops, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.errors import InputError
from rlsf.training.config import SelectionConfig
from rlsf.training.selection import Selection


def probed(*agreements: float, every: int = 10, patience: int | None = None) -> Selection:
    selection = Selection(SelectionConfig(every=every, patience=patience))
    for number, agreement in enumerate(agreements):
        if not selection.stopped:
            selection.add(number * every, {"agreement": agreement})
    return selection


def test_the_best_step_is_kept() -> None:
    selection = probed(0.5, 0.7, 0.9, 0.8)
    assert selection.best_step == 20
    assert selection.explain() == "agreement 0.900, the best of 4 probes"


def test_ties_go_to_the_earlier_step() -> None:
    assert probed(0.5, 0.7, 0.7).best_step == 10


def test_the_start_is_kept_where_nothing_is_better() -> None:
    selection = probed(0.5, 0.4, 0.5)
    assert selection.best_step == 0
    assert selection.explain().startswith("no step was better than the start, which is kept")


def test_add_tells_whether_the_probe_is_the_best() -> None:
    selection = Selection(SelectionConfig())
    assert [selection.add(step, {"agreement": a}) for step, a in ((0, 0.2), (20, 0.2), (40, 0.3), (60, 0.1))] == [
        True,
        False,
        True,
        False,
    ]


def test_patience() -> None:
    # 0.9 at step 10, then two probes that are no better
    selection = probed(0.5, 0.9, 0.8, 0.9, 1.0, patience=2)
    assert selection.stopped
    assert [probe["step"] for probe in selection.probes] == [0, 10, 20, 30]
    assert selection.explain().endswith("stopped after 2 probes without a better one")


def test_without_patience_it_never_stops() -> None:
    assert not probed(0.9, *[0.1] * 50).stopped


def test_probes_are_due_regularly_and_at_the_end() -> None:
    selection = Selection(SelectionConfig(every=20))
    assert [step for step in range(1, 51) if selection.due(step, 50)] == [20, 40, 50]


@pytest.mark.parametrize("measured", [{}, {"agreement": float("nan")}, {"accuracy": 1.0}])
def test_a_probe_without_agreement(measured: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"probe at step 20 has no agreement .* training.selection.enabled=false"):
        Selection(SelectionConfig()).add(20, measured)


def test_state_survives_a_checkpoint(tmp_path: Path) -> None:
    selection = probed(0.5, 0.9, 0.8, patience=1)
    selection.save(tmp_path)
    loaded = Selection.load(selection.config, tmp_path)
    assert loaded == selection
    assert loaded.stopped


def test_no_checkpoint_no_state(tmp_path: Path) -> None:
    assert Selection.load(SelectionConfig(), None).probes == []
    assert Selection.load(SelectionConfig(), tmp_path).best_step is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(1, 5))
def test_the_kept_step_is_the_first_maximum_of_what_was_probed(agreements: list[float], patience: int) -> None:
    selection = probed(*agreements, every=1, patience=patience)
    seen = agreements[: len(selection.probes)]
    assert selection.best_step == seen.index(max(seen))
    since_best = len(seen) - 1 - seen.index(max(seen))
    assert selection.stopped == (since_best >= patience)
