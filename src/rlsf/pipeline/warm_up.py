"""The warm-up stage: the policy's own completions, rewritten into the form that rewards look for, and trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rlsf.answers.config import AnswerConfig
from rlsf.answers.find import choose_occurrence
from rlsf.answers.verbalised import without_stated_confidence
from rlsf.errors import InputError
from rlsf.models import eos_token_ids
from rlsf.pipeline.budgeting import WARM_UP, allowance
from rlsf.pipeline.context import Run
from rlsf.pipeline.manifest import Manifest, finished, read_manifest
from rlsf.pipeline.sampling import read_traces, sample_stage
from rlsf.pipeline.training import by_difference
from rlsf.prompts import render
from rlsf.prompts.prompt import Prompt
from rlsf.prompts.rendering import encode_plain
from rlsf.rewards.forms import (
    drawn_confidence,
    drawn_grade,
    grading_in_form,
    holds_tag,
    in_rlcr_form,
    with_confidence_line,
)
from rlsf.rewards.grading import GradingPrompt
from rlsf.sampling.randomness import derived_seed
from rlsf.traces import Trace

if TYPE_CHECKING:
    from rlsf.training.online_config import OnlineConfig
    from rlsf.training.warm_up import Example


def warm_up_stage(run: Run, online: OnlineConfig) -> Manifest:
    """Teach the form that the rewards look for; the policy that learning starts from is then ``run.start_config()``."""
    from rlsf.training.policy import no_progress_bars, save_policy
    from rlsf.training.warm_up import warm_up

    config, folder = online.warm_up, run.folder.warm_up
    prompts = run.prompts[: config.prompts]
    said = {
        "warm_up": config.model_dump(mode="json"),
        "rewards": online.rewards.model_dump(mode="json"),
        "seed": run.recipe.seed,
    }
    known = read_manifest(folder)
    if known is not None:
        # Other settings are refused by name here; sampling would refuse the prompts that other steps take.
        finished(folder, "warm up", {**said, "traces": known.inputs["traces"]})
    sampled = _sampled(run, online, prompts)
    inputs = {"traces": sampled.digest, **said}
    done = finished(folder, "warm up", inputs)
    if done is not None:
        return done
    answered = answered_completions(run, prompts)
    _tell_left_out(run, online, sampled.counts["traces"], len(answered))
    model = run.model_to_train(run.recipe.model)
    examples = list(in_form(run, online, answered, eos_token_ids(model, run.tokenizer)[0]))
    with run.progress.stage("teach the form", config.steps) as advance:
        result = warm_up(
            model=model,
            tokenizer=run.tokenizer,
            examples=examples,
            config=config,
            folder=folder,
            seed=derived_seed(run.recipe.seed, "warm up"),
            progress=by_difference(advance),
            allowance=allowance(run, WARM_UP),
        )
    with no_progress_bars():
        save_policy(model, run.tokenizer, run.folder.warm_policy)
    counts = {
        name: getattr(result, name)
        for name in ("steps", "examples", "too_long", "learning_rate", "loss", "training_tokens")
    }
    manifest = Manifest("warm up", inputs, counts)
    manifest.write(folder)
    return manifest


def _sampled(run: Run, online: OnlineConfig, prompts: Sequence[Prompt]) -> Manifest:
    sampling = run.recipe.sampling.model_copy(
        update={
            "strategy": "sampling",
            "branches": online.warm_up.completions,
            "temperature": online.warm_up.temperature,
            "max_new_tokens": online.max_completion_length,
        }
    )
    seed = derived_seed(run.recipe.seed, "warm up")
    folder = run.folder.warm_up / "traces"
    # That the form is missing is no news before it is taught.
    allowed, model = allowance(run, WARM_UP), run.recipe.model
    return sample_stage(
        run, "sample for the form", model, prompts, folder, seed, sampling, warns=False, allowed=allowed
    )


class Answered(NamedTuple):
    """A completion to rewrite."""

    prompt: Prompt
    trace: Trace
    answer: str
    """As it is said, not in its canonical form."""


def answered_completions(run: Run, prompts: Sequence[Prompt]) -> list[Answered]:
    """The sampled completions that have an end, and an answer that can stand in any form."""
    asked = {prompt.id: prompt for prompt in prompts}
    traces = (trace for group in read_traces(run.folder.warm_up / "traces") for trace in group if not trace.truncated)
    found = ((asked[trace.prompt_id], trace, _as_said(run, trace, asked[trace.prompt_id])) for trace in traces)
    return [Answered(prompt, trace, said) for prompt, trace, said in found if said and not holds_tag(said)]


def _tell_left_out(run: Run, online: OnlineConfig, sampled: int, answered: int) -> None:
    """Warn of completions that cannot be rewritten; raises ``InputError`` where none can."""
    wanting = f"an answer and an end within online.max_completion_length={online.max_completion_length} tokens"
    if not answered:
        raise InputError(
            f"teach the form: none of {sampled} completions has {wanting}: look at some with `rlsf check`, then raise"
            " that budget, or set online.warm_up.steps=0"
        )
    if answered < sampled:
        run.progress.warn(
            f"teach the form: {sampled - answered} of {sampled} completions are left out, without {wanting}"
        )


def in_form(run: Run, online: OnlineConfig, answered: Sequence[Answered], end: int) -> Iterator[Example]:
    """Completions in the form that rewards look for; for self-verification solutions as they are as well."""
    for prompt, trace, answer in answered:
        if online.rewards.self_verification is not None:
            yield from _of_verification(run, online, prompt, trace, end)
        else:
            yield _of_rlcr(run, online, trace, answer, end)


def _as_said(run: Run, trace: Trace, prompt: Prompt) -> str | None:
    """The words of the answer: in the recipe's format, which is still to be taught, or where answers usually stand."""
    # A confidence that is stated already is a number, too, and no answer.
    for text, answer in ((trace.text, run.recipe.answer), (without_stated_confidence(trace.text), AnswerConfig())):
        found = choose_occurrence(text, answer, prompt.choices)
        if found is not None:
            return text[found.start : found.end]
    return None


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
