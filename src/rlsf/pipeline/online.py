"""The stages of a run that learns online: teach the form, note what the policy is sure of, train from rewards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rlsf.files import digest
from rlsf.models import model_fingerprint
from rlsf.pipeline.budgeting import ONLINE, allowance, with_probes
from rlsf.pipeline.context import Run
from rlsf.pipeline.launching import trained
from rlsf.pipeline.manifest import Manifest, finished, require
from rlsf.pipeline.metrics import spends
from rlsf.pipeline.probe import agreement_probe, held_out, surest_of_traces
from rlsf.pipeline.reward_modelling import STAGE as REWARD_MODEL
from rlsf.pipeline.reward_modelling import own_reward_model
from rlsf.pipeline.sampling import read_traces, sample_stage
from rlsf.pipeline.training import by_difference
from rlsf.prompts import prompts_digest, render
from rlsf.prompts.prompt import Prompt
from rlsf.recipes.recipe import Recipe
from rlsf.sampling.randomness import derived_seed
from rlsf.training.spending import COUNTS, UNCAPPED, Allowance

if TYPE_CHECKING:
    from rlsf.training import TrainingResult
    from rlsf.training.online_config import OnlineConfig


@spends("learning")
def online_stage(run: Run) -> Manifest:
    """Train the policy from rewards of its own completions; the step that is kept is chosen without labels."""
    recipe, online, base = run.recipe, online_config(run), run.start_config()
    folder = run.folder.checkpoints(1)
    inputs = {
        "model": {"fingerprint": model_fingerprint(base), "dtype": base.dtype},
        "prompts": prompts_digest(run.prompts),
        "gold": digest([prompt.gold for prompt in run.prompts]) if recipe.needs_labels else None,
        "render": recipe.render.model_dump(mode="json"),
        "answer": recipe.answer.model_dump(mode="json"),
        "online": online.model_dump(mode="json"),
        "seed": recipe.seed,
        **({"reward_model": trained_reward_model(run).digest} if recipe.reward_model is not None else {}),
    }
    done = finished(folder, "train", inputs)
    if done is not None:
        return done
    kept_out = held_out(run, [prompt.id for prompt in run.prompts])
    if run.launcher is not None:
        probe_targets(run, kept_out)  # sampled before the processes read them
    result = trained(run, train_on_rewards, 1, folder)
    counts = ("steps", "best_step", "learning_rate", "reason", *COUNTS)
    learned_from = len(run.prompts) - len(kept_out)
    manifest = Manifest("train", inputs, {"prompts": learned_from, **{name: getattr(result, name) for name in counts}})
    manifest.write(folder)
    return manifest


def train_on_rewards(run: Run, round_: int) -> TrainingResult:
    """The training itself; in each process where it is done in several."""
    from rlsf.training import train_online
    from rlsf.training.policy import no_progress_bars

    recipe, online, base = run.recipe, online_config(run), run.start_config()
    kept_out = held_out(run, [prompt.id for prompt in run.prompts])
    targets = probe_targets(run, kept_out)
    if kept_out and not targets:
        run.progress.warn(
            f"none of {len(kept_out)} held-out prompts has an answer to compare with: training goes on without the"
            " guard, and the last step is kept"
        )
    learned_from = [prompt for prompt in run.prompts if prompt.id not in set(kept_out)]
    # TRL loads the model at the start once more where there is a divergence term.
    with no_progress_bars(), run.progress.stage("train", online.optimiser_steps(len(learned_from))) as advance:
        return train_online(
            model=run.model_to_train(base),
            tokenizer=run.tokenizer,
            rows=training_rows(run, learned_from),
            config=online,
            answer=recipe.answer,
            folder=run.folder.checkpoints(round_),
            policy_folder=run.folder.policy,
            seed=derived_seed(recipe.seed, "train", 1),
            probe=agreement_probe(run, targets) if targets else None,
            render=lambda text: list(render(Prompt("grading", text), run.tokenizer, recipe.render).token_ids),
            record=lambda event: run.metrics.record({**event, "round": 1}),
            resume=True,
            progress=by_difference(advance),
            reference={"revision": base.revision} if base.revision else {},
            reward_model=own_reward_model(run),
            allowance=_allowed(run, len(targets)),
        )


def _allowed(run: Run, prompts: int) -> Allowance:
    """What training may take, with probes on so many prompts, after what was sampled for them."""
    sampled = [] if run.recipe.reward_model is not None else [run.folder.traces(1)]
    return with_probes(run.recipe, allowance(run, ONLINE, sampled), prompts)


def step_tokens(online: OnlineConfig) -> int:
    """The most tokens that a step samples."""
    return online.completions_per_step * online.steps_per_rollout * online.max_completion_length


def of_guard(recipe: Recipe, allowed: Allowance, held_out: int) -> Allowance:
    """What sampling held-out prompts for the guard may take, so that enough stays for a first step and the probes
    before and after it."""
    assert recipe.online is not None
    probes = 2 * with_probes(recipe, UNCAPPED, held_out).probe_tokens
    return allowed.less(step_tokens(recipe.online) + probes).half()


def online_config(run: Run) -> OnlineConfig:
    """The section ``online``, which this run has."""
    assert run.recipe.online is not None
    return run.recipe.online


def trained_reward_model(run: Run) -> Manifest:
    """What the stage of the reward model wrote."""
    return require(run.folder.reward_checkpoints, REWARD_MODEL, f"train {run.folder.path}")


def training_rows(run: Run, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """What the trainer reads of each prompt; gold answers only where the recipe learns from them."""
    rows = []
    for prompt in prompts:
        rendered = render(prompt, run.tokenizer, run.recipe.render)
        rows.append(
            {
                "prompt": rendered.text,
                "prompt_id": prompt.id,
                "prompt_ids": list(rendered.token_ids),
                "question": prompt.question,
                "choices": list(prompt.choices) or None,
                **({"answer": prompt.gold} if run.recipe.needs_labels else {}),
            }
        )
    return rows


def probe_targets(run: Run, prompt_ids: Sequence[str]) -> dict[str, str]:
    """For held-out prompts the answers that the policy at the start is surest of, among its traces."""
    if not prompt_ids:
        return {}
    prompts = [prompt for prompt in run.prompts if prompt.id in set(prompt_ids)]
    folder, seed = run.folder.traces(1), derived_seed(run.recipe.seed, "sample", 1)
    if run.recipe.reward_model is None:  # its pairs come from traces of every prompt, sampled already
        allowed = of_guard(run.recipe, allowance(run, ONLINE), len(prompts))
        title, model, sampling = "sample for the guard", run.start_config(), run.recipe.sampling
        sample_stage(run, title, model, prompts, folder, seed, sampling, allowed=allowed)
    held = (traces for traces in read_traces(folder) if traces[0].prompt_id in set(prompt_ids))
    return surest_of_traces(run, held, online_config(run).guard.signal or run.recipe.signal)
