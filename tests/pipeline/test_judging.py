"""The judging stage on the bundled model: what it writes, what ranking makes of it, what an interruption changes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from rlsf.answers import Answer
from rlsf.errors import InputError
from rlsf.judging import JudgeConfig, Judgement
from rlsf.judging.judgement import Said
from rlsf.models import ModelConfig, load_model, load_tokenizer
from rlsf.pipeline import judging
from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.judging import JUDGEMENT_SCHEMA, TOO_LONG, failure, judge_stage, judge_traces, read_judgements
from rlsf.pipeline.preflight import preflight
from rlsf.pipeline.ranking import CONFIDENCES, PAIRS, rank_stage
from rlsf.pipeline.run import run_all, sample_round
from rlsf.pipeline.sampling import read_shard
from rlsf.pipeline.shards import shard_paths
from rlsf.pipeline.training import probe_targets
from rlsf.prompts.config import RenderConfig
from rlsf.recipes import Recipe
from rlsf.sampling.randomness import derived_seed
from rlsf.tokenstats.statistics import TokenStatistics
from rlsf.traces import Trace
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
        assert (judgement["failure"] or "").startswith("no answer: ") == (row["answer"] is None)
        if row["answer"] is not None:
            assert judgement["confidence"] == pytest.approx(judgement["reasoning"] * judgement["answer"])
            words = judgement["reasoning_true"] * judgement["answer_true"]
            assert judgement["raw"] == pytest.approx(words, abs=0)
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


def test_words_that_cannot_be_told_apart_are_refused_before_anything_is_sampled(
    tmp_path: Path, small_recipe: Build
) -> None:
    recipe = small_recipe(*JUDGED, "judge.true_word=Yes", "judge.false_word=Yesno", name="core-po")
    with pytest.raises(InputError, match=r"'Yes' and 'Yesno' with the same tokens"):
        preflight(Run(recipe, RunFolder(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


SAID = Said(0.25, 0.25)


@pytest.mark.parametrize(
    ("confidence", "text", "answered", "judgement", "reason"),
    [
        ("composite", "So 4.", True, Judgement((SAID,), SAID), None),
        ("composite", " ", False, Judgement(), "no text"),
        ("composite", "So", False, Judgement((SAID,)), "no answer: no number"),
        ("reasoning", "So", False, Judgement((SAID,)), None),
        ("composite", "So 4.", True, Judgement((SAID,)), TOO_LONG),
        ("composite", "So 4.", True, Judgement((), SAID), TOO_LONG),
        ("reasoning", "So 4.", True, Judgement(), TOO_LONG),
        ("answer", "So 4.", True, Judgement(), TOO_LONG),
        ("answer", "So 4.", True, Judgement((), SAID), None),
        ("answer", "So 4.", True, Judgement((), Said(0.0, 0.0)), "the model gives Yes and No no probability at all"),
    ],
)
def test_a_trace_without_a_confidence_says_why(
    confidence: Literal["reasoning", "answer", "composite"],
    text: str,
    answered: bool,
    judgement: Judgement,
    reason: str | None,
) -> None:
    trace = Trace(
        prompt_id="q1",
        index=0,
        strategy="sampling",
        prompt_token_ids=np.array([1]),
        token_ids=np.array([2]),
        text=text,
        finish_reason="eos",
        statistics=TokenStatistics.missing(1, 10),
        answer=Answer("4", 0, 1) if answered else None,
        failure=None if answered else "no number",
    )
    config = JudgeConfig(confidence=confidence, true_word="Yes", false_word="No")
    assert failure(trace, judgement, config) == reason


def test_traces_that_are_too_long_to_be_asked_about_are_told(judged: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with judged as run:
        engine = judging.local_engine_for(run.policy_config(1))
        longest = engine.model.config.max_position_embeddings
        # The longest questions of the bundled model's own samples have about a hundred tokens.
        engine.model.config.max_position_embeddings = 110
        try:
            counts = judge_stage(run, 1).counts
        finally:
            engine.model.config.max_position_embeddings = longest
        rows = list(read_judgements(run.folder.judgements(1)))
    too_long = [row for row in rows if row["failure"] == TOO_LONG]
    assert 0 < len(too_long) == counts["too_long"] < len(rows)
    assert all(row["confidence"] is None for row in too_long)
    assert f"what is asked about {len(too_long)} of 30 traces {TOO_LONG}" in capsys.readouterr().err


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


def test_the_raw_probability_ranks_where_the_recipe_says_so(judged: Run) -> None:
    with judged as run:
        assert run.recipe.judge is not None
        section = run.recipe.judge.model_copy(update={"probability": "raw"})
        run.recipe = run.recipe.model_copy(update={"judge": section})
        judge_stage(run, 1)
        rows = [row for row in read_judgements(run.folder.judgements(1)) if row["answer"] is not None]
    for row in rows:
        assert row["confidence"] == row["raw"]
        assert (row["reasoning"], row["answer"]) == (row["reasoning_true"], row["answer_true"])


def test_judges_are_asked_as_the_recipe_renders(judged: Run) -> None:
    recipe = judged.recipe
    assert recipe.judge is not None
    config = recipe.judge.model_copy(update={"confidence": "reasoning", "context": 0})
    with judged as run:
        options = {prompt.id for prompt in run.prompts if prompt.choices}
        shards = shard_paths(run.folder.traces(1))
        traces = next(group for path in shards for group in read_shard(path) if group[0].prompt_id in options)
        model, tokenizer = load_model(run.policy_config(1)), load_tokenizer(run.policy_config(1))
    tokenizer.chat_template = "{{ messages[0].content }}\n{{ say }}"
    without = [replace(prompt, choices=()) for prompt in run.prompts]
    said = {}
    for name, render, prompts in (
        ("never", RenderConfig(chat="never"), run.prompts),
        ("by hand", RenderConfig(chat="never", template="{question}"), run.prompts),
        ("templated", RenderConfig(chat_arguments={"say": "A:"}), run.prompts),
        ("without options", RenderConfig(chat="never"), without),
    ):
        [judgements] = judge_traces(model, tokenizer, [traces], prompts, config, render=render, seed=1)
        said[name] = [math.log(one.reasoning[0].true) for one in judgements]
    assert said["never"] == said["by hand"], "what is for solving is left out"
    assert said["never"] != pytest.approx(said["templated"], abs=0.01)
    assert said["never"] != pytest.approx(said["without options"], abs=0.01)


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
    # What the second round samples is judged by the policy that the first has taught, in an order of its own.
    traces = read_shard(shard_paths(run.folder.traces(2))[0])
    group, judge = next(traces), recipe.judge
    assert judge is not None
    raw = {
        round_: [one.confidence("reasoning", "raw") for one in judgements]
        for round_ in (1, 2)
        for judgements in judge_traces(
            load_model(run.policy_config(round_)).float(),
            run.tokenizer,
            [group],
            run.prompts,
            judge,
            render=recipe.render,
            seed=derived_seed(recipe.seed, "judge", 2),
        )
    }
    stored = [row["reasoning_true"] for row in two[: len(group)]]
    assert stored == pytest.approx(raw[2], rel=1e-3, abs=0)
    assert stored != pytest.approx(raw[1], rel=1e-2, abs=0)
    # And the second round's samples are those of that policy: their log-probabilities are its own.
    for trace in group:
        of_trace = [
            logprob(run.policy_config(round_), [*trace.prompt_token_ids], [*trace.token_ids]) for round_ in (1, 2)
        ]
        assert float(trace.statistics.logprob.sum()) == pytest.approx(of_trace[1], abs=1e-2)
        assert of_trace[0] != pytest.approx(of_trace[1], abs=1e-2)
    # The fixed reference of the second round is the model at the very start, not the policy that the round begins with.
    pair = pq.read_table(run.folder.preferences(2) / PAIRS).to_pylist()[0]
    stored = pq.read_table(run.folder.checkpoints(2) / REFERENCE)["ref_chosen_logps"][0].as_py()
    start, first = (logprob(run.policy_config(round_), pair["prompt_ids"], pair["chosen_ids"]) for round_ in (1, 2))
    assert stored == pytest.approx(start, abs=1e-3)
    assert abs(first - start) > 0.01
