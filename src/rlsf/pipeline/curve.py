"""The cost curve of a run: what its policy answers right at every checkpoint, and what had been spent by then."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rlsf.answers.equivalence import Grader
from rlsf.confidence import get_signal
from rlsf.evaluation import judge_question
from rlsf.evaluation.config import EvaluationConfig
from rlsf.evaluation.method_outcomes import CurvePoint
from rlsf.evaluation.metrics import Metrics, Sample
from rlsf.evaluation.outcomes import Outcome
from rlsf.evaluation.summary import by_mode
from rlsf.files import read_json, write_json
from rlsf.models.config import ModelConfig
from rlsf.models.folder import WEIGHTS_INDEX
from rlsf.pipeline.budgeting import ONLINE, folders, part_of_round, spent_before
from rlsf.pipeline.context import Run
from rlsf.pipeline.evaluation import evaluation_sampling, read_outcomes
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.manifest import require
from rlsf.pipeline.metrics import spends
from rlsf.pipeline.ranking import confidences
from rlsf.pipeline.sampling import read_traces, sample_stage
from rlsf.pipeline.spent import Spent, logged, of_checkpoint, of_stages, read_spent, seconds_of
from rlsf.sampling.randomness import derived_seed
from rlsf.training.checkpoints import checkpoint_path, checkpoint_steps


@dataclass(frozen=True, slots=True)
class Measured:
    """A policy of a run: the step of its round, what learning had cost by then, and what it answers greedily.

    Round 0 is what learning starts from. ``optimiser_steps`` and tokens are those of the whole run so far, ``seconds``
    of learning alone; ``ece`` is that of the recipe's signal.
    """

    round: int
    step: int
    optimiser_steps: int
    generated_tokens: int
    training_tokens: int
    seconds: float
    accuracy: float
    ece: float

    @classmethod
    def of(cls, round_: int, step: int, spent: Spent, outcomes: Sequence[Outcome], bins: int) -> Measured:
        """A policy by its greedy outcomes."""
        greedy = by_mode(outcomes, EvaluationConfig(modes=("greedy",)))["greedy"]
        values = Metrics(Sample.of(greedy), bins).values()
        return cls(
            round_,
            step,
            spent.optimiser_steps,
            spent.generated_tokens,
            spent.training_tokens,
            spent.seconds_learning,
            accuracy=values["accuracy"],
            ece=values["ece"],
        )

    def point(self) -> CurvePoint:
        """The same as a comparison knows it."""
        return CurvePoint(
            self.optimiser_steps, self.generated_tokens, self.training_tokens, self.seconds, self.accuracy
        )


@spends("measuring")
def measure_curve(run: Run) -> None:
    """Ask the policy of every checkpoint the evaluation's questions, greedily, and write ``evaluation/curve.json``.

    What was measured before is kept, checkpoint by checkpoint. A run that trains no policy, or has no questions, has no
    curve. Checkpoints from before the first step are left out: they are what the round begins with. So are, with a
    warning, those that do not hold the policy whole.
    """
    if not run.questions or not run.folder.policy.exists():
        return
    path, bins = run.folder.curve_file, run.recipe.evaluation.bins
    content = read_json(path) if path.exists() else {"checkpoints": [], "end": None}
    known = {(one["round"], one["step"]): one for one in content["checkpoints"]}
    start = Measured.of(0, 0, _spent_at_start(run), read_outcomes(run.folder, "before"), bins)
    points: list[dict[str, Any]] = []

    def write(end: Measured | None) -> None:
        ended = None if end is None else asdict(end)
        write_json(path, {"schema_version": 1, "start": asdict(start), "checkpoints": points, "end": ended})

    for round_, step in _checkpoints(run):
        point = known.get((round_, step))
        if point is None:
            outcomes = _asked(run, round_, step)
            if outcomes is None:
                continue
            point = asdict(Measured.of(round_, step, spent_by(run, round_, step), outcomes, bins))
        points.append(point)
        write(None)
    rounds = run.recipe.rounds
    trained = require(run.folder.checkpoints(rounds), "train", f"train --output {run.folder.path}")
    after = read_outcomes(run.folder, "after")
    write(Measured.of(rounds, trained.counts["best_step"], read_spent(run.folder), after, bins))
    shutil.rmtree(run.folder.evaluation("curve"), ignore_errors=True)


def read_curve(folder: RunFolder) -> list[CurvePoint]:
    """The points of a run: its start, its checkpoints, and its end, which is the policy that was kept.

    The last checkpoint is the end, and not there twice, where its policy was kept. Empty where nothing was measured.
    """
    if not folder.curve_file.exists():
        return []
    content = read_json(folder.curve_file)
    start, end = Measured(**content["start"]), Measured(**content["end"])
    checkpoints = [Measured(**one) for one in content["checkpoints"]]
    if checkpoints and _place(checkpoints[-1]) == _place(end):
        checkpoints.pop()
    return [one.point() for one in (start, *checkpoints, end)]


def _place(one: Measured) -> tuple[int, int, int]:
    return one.round, one.step, one.optimiser_steps


def _checkpoints(run: Run) -> Iterator[tuple[int, int]]:
    """Round and step of every checkpoint of a policy, in the order in which they were written."""
    for round_ in range(1, run.recipe.rounds + 1):
        yield from ((round_, step) for step in checkpoint_steps(run.folder.checkpoints(round_)) if step)


def spent_by(run: Run, round_: int, step: int) -> Spent:
    """What learning had cost by a checkpoint; the traces that its round learns from are paid before its first step."""
    part = part_of_round(round_) if run.recipe.online is None else ONLINE
    training = run.folder.checkpoints(round_)
    sampled = [folder for folder in folders(run, part) if folder != training]
    tokens = spent_before(run, part, sampled) + of_checkpoint(training, step)
    return replace(tokens, seconds_learning=seconds_by(logged(run.folder.metrics_file), round_, step))


def seconds_by(events: Sequence[dict[str, Any]], round_: int, step: int) -> float:
    """Seconds of learning up to the last line that tells of a step of a round, or of one before it.

    What a killed process had done beyond its last checkpoint is in them once a resumed one has come as far again.
    """
    told = (
        place for place, one in enumerate(events) if one.get("round") == round_ and 0 <= one.get("step", -1) <= step
    )
    return seconds_of(events[: max(told, default=-1) + 1], "learning")


def _spent_at_start(run: Run) -> Spent:
    """Nothing, but for a warm-up: it was over when the first line was about measuring."""
    taught = of_stages(run.folder.warm_up)
    if taught == Spent():
        return taught
    before = itertools.takewhile(lambda one: "measuring_seconds" not in one, logged(run.folder.metrics_file))
    return replace(taught, seconds_learning=seconds_of(before, "learning"))


def _asked(run: Run, round_: int, step: int) -> list[Outcome] | None:
    """What the policy of a checkpoint answers, None where the checkpoint does not hold it whole."""
    recipe, checkpoint = run.recipe, checkpoint_path(run.folder.checkpoints(round_), step)
    place = run.folder.evaluation("curve") / f"round-{round_}-step-{step}"
    model = policy_of(run, round_, checkpoint, place / "policy")
    if model is None:
        run.progress.warn(f"{checkpoint} does not hold the policy's weights in one piece: no point of the cost curve")
        return None
    title = f"measure round {round_}, step {step}"
    sampling = evaluation_sampling(recipe).model_copy(update={"branches": 1})
    seed = derived_seed(recipe.seed, "evaluate")
    sample_stage(run, title, model, run.questions, place / "traces", seed, sampling, warns=False)
    signal, greedy = get_signal(recipe.signal), EvaluationConfig(modes=("greedy",))
    with Grader() as grader:
        outcomes = [
            outcome
            for question, traces in zip(run.questions, read_traces(place / "traces"), strict=True)
            for outcome in judge_question(question, traces, confidences(traces, signal, run.tokenizer), greedy, grader)
        ]
    shutil.rmtree(place)
    return outcomes


def policy_of(run: Run, round_: int, checkpoint: Path, place: Path) -> ModelConfig | None:
    """The policy of a checkpoint, or its adapter, as a model folder of links; None where the weights are not there.

    Weights are the checkpoint's, all else is that of the policy which its round kept: a checkpoint may have no
    tokenizer, has the special tokens that trainers write into configurations, and the precision of training.
    """
    kept = run.trained_config(round_)
    weights = [path for path in checkpoint.iterdir() if _is_weights(path)]
    if not weights:
        return None
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    others = [path for path in Path(str(kept.path)).iterdir() if path.is_file() and not _is_weights(path)]
    for path in (*weights, *others):
        (place / path.name).symlink_to(path.resolve())
    return kept.model_copy(update={"path": str(place)})


def _is_weights(path: Path) -> bool:
    return path.suffix == ".safetensors" or path.name == WEIGHTS_INDEX
