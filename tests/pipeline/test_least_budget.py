"""Caps under which nothing could be sampled are refused before any work, with the least number that is enough."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rlsf.errors import InputError
from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.least_budget import require_a_beginning
from rlsf.pipeline.preflight import preflight
from rlsf.recipes import Recipe, parse_overrides, resolve

#: Tokens of a prompt: five traces of 64.
PROMPT = 5 * 64
#: Three probes of 8 held-out prompts of 40.
PROBES = 3 * 8 * 64


def capped(name: str, cap: int | None, *overrides: str) -> Recipe:
    sizes = ("sampling.branches=5", "sampling.max_new_tokens=64", *overrides)
    told = [] if cap is None else [f"budget.generated_tokens={cap}"]
    return resolve(name, overrides=parse_overrides([*sizes, *told]))


@pytest.mark.parametrize(
    ("name", "overrides", "enough"),
    [
        ("rlsf", (), PROBES + PROMPT),
        ("rlsf", ("training.rounds=2",), 2 * (PROBES + PROMPT)),
        ("rlsf", ("training.selection.enabled=false",), PROMPT),
        # What is held out is sampled first, takes half of what is there, and leaves a dialogue of 1 + 16 attempts.
        ("rise-introspection", (), 2 * PROBES + 17 * 64 + 2 * PROMPT),
        ("rise-introspection", ("introspection.training.selection.enabled=false",), 17 * 64),
        ("sft-majority", ("introspection.samples=[7]",), 7 * 64),
        (
            "sft-majority",
            ("introspection.samples=[7]", "introspection.training.selection.enabled=true"),
            PROBES + 7 * 64 + 2 * 7 * 64,
        ),
        ("rc-rm", (), PROMPT),
        ("drr", ("acceptance.rounds=4", "acceptance.labels=gold"), 4 * 64),
        # A step of 2 prompts with 3 completions of 32, and two probes.
        (
            "rlif-self-certainty",
            (
                *("online.prompts_per_step=2", "online.num_generations=3", "online.max_completion_length=32"),
                *("online.device_batch_size=6", "online.steps_per_rollout=1"),
            ),
            2 * 3 * 32 + 2 * 8 * 64 + 2 * PROMPT,
        ),
    ],
)
def test_the_least_cap_is_said_and_is_enough(name: str, overrides: tuple[str, ...], enough: int) -> None:
    require_a_beginning(capped(name, None, *overrides), 40)
    require_a_beginning(capped(name, enough, *overrides), 40)
    for cap in (1, enough - 1):
        told = rf"^budget\.generated_tokens={cap} leaves \d+ tokens for .*: set it to {enough} or more$"
        with pytest.raises(InputError, match=told):
            require_a_beginning(capped(name, cap, *overrides), 40)


def test_a_run_is_refused_before_its_folder_is_taken(tmp_path: Path, demo_data: tuple[Path, Path]) -> None:
    from rlsf.demo import MODEL_DIR

    places = (f"model.path={MODEL_DIR}", f"prompts.path={demo_data[0]}", "sampling.workers=1")
    run = Run(capped("rlsf", 100, *places), RunFolder(tmp_path / "run"))
    with pytest.raises(InputError, match=re.escape("budget.generated_tokens=100 leaves 0 tokens for the first prompt")):
        preflight(run, trains=True)
    preflight(run, learns=False)  # measuring alone takes nothing of it
    assert not (tmp_path / "run").exists()
