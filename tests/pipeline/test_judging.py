"""The judging stage on the bundled model: what it writes, what ranking makes of it, what an interruption changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from rlsf.errors import InputError
from rlsf.models import ModelConfig, load_model
from rlsf.pipeline import judging
from rlsf.pipeline.context import Run
from rlsf.pipeline.judging import JUDGEMENT_SCHEMA, judge_stage, read_judgements
from rlsf.pipeline.ranking import CONFIDENCES, PAIRS, rank_stage
from rlsf.pipeline.run import run_all, sample_round
from rlsf.pipeline.training import probe_targets
from rlsf.recipes import Recipe
from rlsf.training.preference_trainer import REFERENCE

Build = Callable[..., Recipe]
Open = Callable[..., Run]
JUDGED = (
    *("sampling.branches=3", "prompts.limit=10", "sampling.shard_prompts=4", "judge.template=terse"),
    *("training.lora=null", "training.learning_rate=1e-4", "training.nll_weight=0"),
)


@pytest.fixture
def judged(tmp_path: Path, small_recipe: Build, open_run: Open) -> Run:
    """A run with sampled traces that are not judged yet."""
    run = open_run(small_recipe(*JUDGED, name="core-po"), tmp_path / "run")
    sample_round(run, 1)
    return run


def test_every_trace_is_judged_and_ranked_by_it(judged: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with judged as run:
        rank_stage(run, 1)
        judged_traces = list(read_judgements(run.folder.judgements(1)))
        targets = probe_targets(run, 1)
    assert all(list(row) == JUDGEMENT_SCHEMA.names for row in judged_traces)
    assert len(judged_traces) == 10 * 3
    rows = {(row["prompt_id"], row["index"]): row for row in judged_traces}
    ranked = pq.read_table(run.folder.preferences(1) / CONFIDENCES).to_pylist()
    assert len(ranked) == len(rows)
    for row in ranked:
        judgement = rows[row["prompt_id"], row["index"]]
        assert row["confidence"] == judgement["confidence"]
        assert row["raw"] == judgement["raw"]
        assert (judgement["confidence"] is None) == (row["answer"] is None)
        if row["answer"] is not None:
            assert judgement["confidence"] == pytest.approx(judgement["reasoning"] * judgement["answer"])
            assert judgement["raw"] == pytest.approx(judgement["reasoning_true"] * judgement["answer_true"])
        two_way = judgement["reasoning_true"] / (judgement["reasoning_true"] + judgement["reasoning_false"])
        assert judgement["reasoning"] == pytest.approx(two_way)
        assert judgement["attempts"] == 3
    for prompt_id, answer in targets.items():
        of_prompt = [row for row in ranked if row["prompt_id"] == prompt_id and row["confidence"] is not None]
        assert answer == max(of_prompt, key=lambda row: row["confidence"])["answer"]
    for pair in pq.read_table(run.folder.preferences(1) / PAIRS).to_pylist():
        assert pair["chosen_confidence"] > pair["rejected_confidence"]
    # The bundled model never says True or False by itself, and that is told.
    assert "this model does not answer in them" in capsys.readouterr().err


def test_a_stage_cut_short_ends_like_one_that_was_not(judged: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    judge_shard = judging.judge_shard

    def failing(task: judging.JudgeTask) -> int:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(task.path)
        return judge_shard(task)

    with judged as run:
        monkeypatch.setattr(judging, "judge_shard", failing)
        with pytest.raises(KeyboardInterrupt):
            judge_stage(run, 1)
        folder = run.folder.judgements(1)
        kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*")}
        assert len(kept) == 2
        monkeypatch.setattr(judging, "judge_shard", judge_shard)
        manifest = judge_stage(run, 1)
        after = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*")}
        assert kept.items() < after.items()
        assert manifest.counts["shards"] == len(after) == 3
        whole = list(read_judgements(folder))
        for path in folder.iterdir():
            path.unlink()
        assert judge_stage(run, 1).counts == manifest.counts
        assert list(read_judgements(folder)) == whole


def test_judgements_of_other_settings_are_not_reused(judged: Run) -> None:
    with judged as run:
        judge_stage(run, 1)
        section = run.recipe.judge
        assert section is not None
        other = section.model_copy(update={"context": 0})
        run.recipe = run.recipe.model_copy(update={"judge": other})
        with pytest.raises(InputError, match=r"judge\.context: 4 -> 0"):
            judge_stage(run, 1)


def test_statements_are_kept(judged: Run) -> None:
    with judged as run:
        assert run.recipe.judge is not None
        section = run.recipe.judge.model_copy(update={"reasoning": "statement_wise", "confidence": "reasoning"})
        run.recipe = run.recipe.model_copy(update={"judge": section})
        judge_stage(run, 1)
        rows = list(read_judgements(run.folder.judgements(1)))
    assert max(len(row["statements"]) for row in rows) > 1
    for row in rows:
        assert row["confidence"] == pytest.approx(sum(row["statements"]) / len(row["statements"]))
        assert row["answer"] is None


def logprob(model: ModelConfig, prompt_ids: list[int], ids: list[int]) -> float:
    """Summed log-probability of a trace, by one plain forward pass."""
    whole = torch.tensor([[*prompt_ids, *ids]])
    with torch.no_grad():
        each = load_model(model).float()(whole).logits[0, :-1].float().log_softmax(-1)
    return float(each.gather(1, whole[0, 1:].unsqueeze(1))[len(prompt_ids) - 1 :].sum())


def test_two_rounds_to_a_report(tmp_path: Path, small_recipe: Build, open_run: Open) -> None:
    changes = ("training.rounds=2", "training.max_steps=2", "training.learning_rate=1e-3")
    recipe = small_recipe(*JUDGED, *changes, "training.selection.enabled=false", name="core-po")
    with open_run(recipe, tmp_path / "run") as run:
        summary = run_all(run)
    assert summary is not None
    events = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [event["round"] for event in events if event["event"] == "judging"] == [1, 2]
    assert (tmp_path / "run" / "report.html").exists()
    one, two = (list(read_judgements(run.folder.judgements(round_))) for round_ in (1, 2))
    assert [row["confidence"] for row in one] != [row["confidence"] for row in two]
    # The fixed reference of the second round is the model at the very start, not the policy that the round begins with.
    pair = pq.read_table(run.folder.preferences(2) / PAIRS).to_pylist()[0]
    stored = pq.read_table(run.folder.checkpoints(2) / REFERENCE)["ref_chosen_logps"][0].as_py()
    start, first = (logprob(run.policy_config(round_), pair["prompt_ids"], pair["chosen_ids"]) for round_ in (1, 2))
    assert stored == pytest.approx(start, abs=1e-3)
    assert abs(first - start) > 0.01
