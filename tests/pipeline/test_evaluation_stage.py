"""What is measured, and on which traces, where a recipe or a policy is unusual."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from rlsf.demo import MODEL_DIR
from rlsf.errors import InputError
from rlsf.models.config import ModelConfig
from rlsf.pipeline.context import Run
from rlsf.pipeline.evaluation import evaluate_stage, read_outcomes, summary_stage
from rlsf.pipeline.reporting import greedy_outcomes, report_stage
from rlsf.pipeline.run import sample_round
from rlsf.pipeline.sampling import read_traces
from rlsf.recipes import Recipe

Build = Callable[..., Recipe]
Open = Callable[..., Run]


@pytest.fixture
def silent(tmp_path: Path) -> ModelConfig:
    """The bundled model with every weight zero: all tokens are equally likely, the first of them wins for ever."""
    from rlsf.demo import MODEL_DIR

    folder = tmp_path / "silent"
    shutil.copytree(MODEL_DIR, folder)
    weights = load_file(folder / "model.safetensors")
    save_file({name: tensor * 0 for name, tensor in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    return ModelConfig(path=str(folder))


def strategies(folder: Path) -> set[str]:
    return set(pq.read_table(folder / "part-00000.parquet").column("strategy").to_pylist())


def test_a_recipe_that_learns_from_temperature_samples_is_measured_like_the_others(
    tmp_path: Path, small_recipe: Build, open_run: Open
) -> None:
    recipe = small_recipe("sampling.strategy=sampling", "sampling.branches=2", "evaluation_data.limit=4")
    with open_run(recipe, tmp_path / "run") as run:
        sample_round(run, 1)
        evaluate_stage(run, "before", recipe.model)
        summary = summary_stage(run)
    assert strategies(tmp_path / "run" / "traces" / "round-1") == {"sampling"}
    assert strategies(tmp_path / "run" / "evaluation" / "before" / "traces") == {"cot_decoding"}
    assert {mode: values["n"] for mode, values in summary["before"].items()} == {
        "greedy": 4,
        "cot_decoding": 4,
        "majority": 4,
    }


def test_one_trace_is_sampled_where_no_mode_chooses_among_several(
    tmp_path: Path, small_recipe: Build, open_run: Open
) -> None:
    """The greedy answer is the same whatever is decoded beside it."""

    def measured(name: str, *settings: str) -> tuple[int, list[object]]:
        recipe = small_recipe("evaluation_data.limit=4", *settings)
        with open_run(recipe, tmp_path / name) as run:
            evaluate_stage(run, "before", recipe.model)
            outcomes = [one for one in read_outcomes(run.folder, "before") if one.mode == "greedy"]
            traces = sum(map(len, read_traces(run.folder.evaluation("before") / "traces")))
        return traces, [(one.prompt_id, one.answer, one.correct) for one in outcomes]

    (several, among_several), (one, alone) = measured("all"), measured("greedy", "evaluation.modes=[greedy]")
    assert (several, one) == (4 * 6, 4)
    assert alone == among_several


def test_a_policy_silenced_by_training_is_measured_and_reported(
    tmp_path: Path, small_recipe: Build, open_run: Open, silent: ModelConfig
) -> None:
    recipe = small_recipe("evaluation_data.limit=1")
    with open_run(recipe, tmp_path / "run") as run:
        evaluate_stage(run, "before", recipe.model)
        evaluate_stage(run, "after", silent)
        summary = summary_stage(run)
        page = report_stage(run).read_text()
    for values in summary["after"].values():
        assert (values["n"], values["without_answer"]) == (1, 1)
        assert (values["accuracy"], values["mean_confidence"], values["ece"], values["brier"]) == (0, 0, 0, 0)
        assert (values["auroc"], values["intervals"]["auroc"]) == (None, None)
        assert values["intervals"]["accuracy"] == [0, 0]
    assert "Without an answer that could be found, counted as wrong with confidence 0: Greedy 1 of 1" in page


def test_a_model_silent_from_the_start_is_refused_at_every_start(
    tmp_path: Path, small_recipe: Build, open_run: Open, silent: ModelConfig
) -> None:
    recipe = small_recipe("evaluation_data.limit=1", f"model.path={silent.path}")
    for _ in range(2):
        with open_run(recipe, tmp_path / "run", resume=True) as run:
            with pytest.raises(InputError, match=r"evaluate before: no trace has an answer .* cut at sampling.max_new"):
                evaluate_stage(run, "before", recipe.model)


def test_questions_are_told_by_greedy_decoding_and_must_still_be_there(
    tmp_path: Path, small_recipe: Build, open_run: Open, demo_data: tuple[Path, Path]
) -> None:
    data = tmp_path / "test.jsonl"
    lines = demo_data[1].read_text().splitlines(keepends=True)[:6]
    data.write_text("".join(lines))
    recipe = small_recipe(f"evaluation_data.path={data}", "evaluation.modes=[majority,greedy]")
    with open_run(recipe, tmp_path / "run") as run:
        evaluate_stage(run, "before", recipe.model)
        rows = pq.read_table(tmp_path / "run" / "evaluation" / "before" / "outcomes.parquet").to_pylist()
        greedy, majority = (
            {row["prompt_id"]: (row["correct"], None) for row in rows if row["mode"] == mode}
            for mode in ("greedy", "majority")
        )
        assert greedy_outcomes(run) == greedy != majority
    data.write_text("".join(lines[:-1]))
    with open_run(recipe, tmp_path / "run", resume=True) as run:
        with pytest.raises(InputError, match=r"question '.*' was measured but is no longer in the evaluation data"):
            report_stage(run)


def test_no_report_is_written_of_another_policy_or_another_signal(
    tmp_path: Path, small_recipe: Build, open_run: Open, silent: ModelConfig
) -> None:
    recipe, folder = small_recipe("evaluation_data.limit=1"), tmp_path / "run"
    with open_run(recipe, folder) as run:
        shutil.copytree(silent.path, run.folder.policy)
        evaluate_stage(run, "before", recipe.model)
        evaluate_stage(run, "after", run.trained_config(1))
        summary_stage(run)
        report_stage(run)
        shutil.rmtree(run.folder.policy)
        shutil.copytree(MODEL_DIR, run.folder.policy)
        with pytest.raises(InputError, match=r"evaluation was measured of another policy .*: delete it, then say `"):
            report_stage(run)
        run.recipe = recipe.model_copy(update={"signal": "answer_disparity"})
        with pytest.raises(InputError, match=r"with signal trace_confidence, the run has answer_disparity: delete it"):
            report_stage(run)
