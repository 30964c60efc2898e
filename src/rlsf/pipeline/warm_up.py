"""The warm-up stage: the policy's own completions, rewritten into the form that rewards look for, and trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from rlsf.answers.config import AnswerConfig
from rlsf.answers.find import choose_occurrence
from rlsf.models import eos_token_ids, load_model
from rlsf.pipeline.context import Run
from rlsf.pipeline.manifest import Manifest, finished
from rlsf.pipeline.sampling import read_traces, sample_stage
from rlsf.pipeline.training import by_difference
from rlsf.prompts import render
from rlsf.prompts.prompt import Prompt
from rlsf.prompts.rendering import encode_plain
from rlsf.rewards.forms import (
    drawn_confidence,
    drawn_grade,
    grading_in_form,
    in_rlcr_form,
    with_confidence_line,
)
from rlsf.rewards.grading import GradingPrompt
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.randomness import derived_seed
from rlsf.traces import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from rlsf.training.online_config import OnlineConfig
    from rlsf.training.warm_up import Example


def warm_up_stage(run: Run, online: OnlineConfig) -> Manifest:
    """Teach the form that the rewards look for; the policy that learning starts from is then ``run.start_config()``."""
    from rlsf.training.policy import no_progress_bars, save_policy
    from rlsf.training.warm_up import warm_up

    config, folder = online.warm_up, run.folder.warm_up
    prompts = run.prompts[: config.prompts]
    sampling = run.recipe.sampling.model_copy(
        update={
            "strategy": "sampling",
            "branches": config.completions,
            "temperature": config.temperature,
            "max_new_tokens": online.max_completion_length,
        }
    )
    sampled = _sampled(run, prompts, sampling)
    inputs = {
        "traces": sampled.digest,
        "warm_up": config.model_dump(mode="json"),
        "rewards": online.rewards.model_dump(mode="json"),
        "seed": run.recipe.seed,
    }
    done = finished(folder, "warm up", inputs)
    if done is not None:
        return done
    model = cast("PreTrainedModel", load_model(run.recipe.model, for_training=True))
    examples = list(_examples(run, online, prompts, eos_token_ids(model, run.tokenizer)[0]))
    with run.progress.stage("teach the form", config.steps) as advance:
        result = warm_up(
            model=model,
            tokenizer=run.tokenizer,
            examples=examples,
            config=config,
            folder=folder,
            seed=derived_seed(run.recipe.seed, "warm up"),
            progress=by_difference(advance),
        )
    with no_progress_bars():
        save_policy(model, run.tokenizer, run.folder.warm_policy)
    counts = {name: getattr(result, name) for name in ("steps", "examples", "too_long", "learning_rate", "loss")}
    manifest = Manifest("warm up", inputs, counts)
    manifest.write(folder)
    return manifest


def _sampled(run: Run, prompts: list[Prompt], sampling: SamplingConfig) -> Manifest:
    seed = derived_seed(run.recipe.seed, "warm up")
    folder = run.folder.warm_up / "traces"
    return sample_stage(run, "sample for the form", run.recipe.model, prompts, folder, seed, sampling)


def _examples(run: Run, online: OnlineConfig, prompts: list[Prompt], end: int) -> Iterator[Example]:
    """Completions that have an answer and an end, in the form; for self-verification solutions as they are as well."""
    asked = {prompt.id: prompt for prompt in prompts}
    for traces in read_traces(run.folder.warm_up / "traces"):
        for trace in traces:
            answer = _as_said(run, trace, asked[trace.prompt_id])
            if answer is None or trace.truncated:
                continue
            if online.rewards.self_verification is not None:
                yield from _of_verification(run, online, asked[trace.prompt_id], trace, end)
            else:
                yield _of_rlcr(run, online, trace, answer, end)


def _as_said(run: Run, trace: Trace, prompt: Prompt) -> str | None:
    """The words of the answer: in the recipe's format, which is still to be taught, or where answers usually stand."""
    found = choose_occurrence(trace.text, run.recipe.answer, prompt.choices) or choose_occurrence(
        trace.text, AnswerConfig(), prompt.choices
    )
    return None if found is None else trace.text[found.start : found.end]


def _of_rlcr(run: Run, online: OnlineConfig, trace: Trace, answer: str, end: int) -> Example:
    from rlsf.training.warm_up import Example

    section = online.rewards.brier_calibration
    confidence = drawn_confidence(run.recipe.seed, trace.trace_id)
    assert section is not None
    if section.written == "line":
        text = with_confidence_line(trace.text, confidence)
    else:
        text = in_rlcr_form(trace.text, answer, confidence, analysis=section.analysis)
    return Example(trace.prompt_token_ids.tolist(), [*encode_plain(text, run.tokenizer), end])


def _of_verification(run: Run, online: OnlineConfig, prompt: Prompt, trace: Trace, end: int) -> Iterator[Example]:
    from rlsf.training.warm_up import Example

    section = online.rewards.self_verification
    assert section is not None
    yield Example(trace.prompt_token_ids.tolist(), trace.token_ids.tolist())
    asks = GradingPrompt(template=section.template, form=section.form).text(prompt.question, trace.text)
    grade = grading_in_form(drawn_grade(run.recipe.seed, trace.trace_id), section.form)
    prompt_ids = render(Prompt("grading", asks), run.tokenizer, run.recipe.render).token_ids
    yield Example(prompt_ids, [*encode_plain(f" {grade}", run.tokenizer), end])
