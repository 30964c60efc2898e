"""Length bias of reward models: plain Bradley-Terry and response-conditioned, trained on the same pairs.

python benchmarks/length_bias.py [--quick] [--json FILE] [--page docs/length-bias.md] [--seeds 0 1 2]

The bundled model answers generated questions with direct answers and worked solutions; its traces are ranked by the
confidence of their reasoning, and reward models are trained from it on the pairs. Each is measured on pairs of other
questions. Quality here is the order of confidences, which is what the models are trained to tell. ``balanced`` weighs
pairs whose better trace is shorter the same as those where it is longer; ``against`` are the former alone. ``obeys``:
of two traces under a limit between their lengths, the one that keeps it is preferred. ``limits``: a trace is preferred
under the prompt that it obeys, better and worse traces alike under limits that they keep and break. ``as trained``: the
same of the comparisons that training has, where the better trace breaks its limit and the worse one keeps it. A scorer
by length alone has 50 in balanced and obeys; one that reads no numbers has 50 in obeys and limits, and may have 100 as
trained. The plain model is trained for as many passes, and for as many steps, as the conditioned one; the other
variants leave out one half of the comparisons.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
from transformers import PreTrainedModel

from _bundled import Policy, on_cpu
from _cells import Cells
from _page import write_tables
from _shared import options, show, write_json
from rlsf.confidence import get_signal
from rlsf.demo.tasks import Problem, generate
from rlsf.evaluation.length_bias import LengthBias
from rlsf.models import load_model, load_tokenizer
from rlsf.models.config import ModelConfig
from rlsf.models.reward_model import load_reward_model
from rlsf.pipeline.conditioning import limited_prompts, numbers_of_pairs
from rlsf.pipeline.length_bias import measure_length_bias
from rlsf.pipeline.ranking import confidences
from rlsf.preferences import rank
from rlsf.preferences.conditioned_pairs import CHOSEN, ORDINARY, REJECTED, condition_pairs
from rlsf.preferences.conditioning_config import LengthConditioningConfig
from rlsf.prompts import render
from rlsf.recipes import resolve
from rlsf.training.reward_model import train_reward_model
from rlsf.training.reward_model_config import RewardModelConfig

RECIPE = resolve("rlsf-trace")
#: Of traces with different answers the surer is always the longer one here: a worked solution over a direct answer.
RANKING = RECIPE.ranking.model_copy(update={"rule": "all_pairs", "different_answers": False, "minimum_gap": 0.05})
#: Direct answers have four words.
CONDITIONING = LengthConditioningConfig(minimum_words=3)
#: Parts of the union that a variant learns from, and whether it takes as many steps as the whole union does.
VARIANTS: dict[str, tuple[tuple[str, ...], bool]] = {
    "Bradley-Terry, as many passes": ((ORDINARY,), False),
    "Bradley-Terry, as many steps": ((ORDINARY,), True),
    "response-conditioned": ((ORDINARY, CHOSEN, REJECTED), True),
    "without its rejected half": ((ORDINARY, CHOSEN), True),
    "without its chosen half": ((ORDINARY, REJECTED), True),
}
QUICK = ("Bradley-Terry, as many steps", "response-conditioned")
HEADER = ["reward model", "steps", "accuracy", "balanced", "against", "obeys", "limits", "as trained", "corr."]
SHARES = ("accuracy", "balanced", "adversarial", "length_accuracy", "limit_accuracy", "trained_accuracy")


class Bench:
    """The bundled model's pairs, to learn from and to measure on."""

    def __init__(self, questions: int, held_out: int) -> None:
        self.tokenizer = load_tokenizer(on_cpu())
        self.problems = generate("self_training", questions), generate("test", held_out)
        self.policy = Policy(load_model(on_cpu()), self.tokenizer, RECIPE)
        self.pairs = [self._ranked(problems) for problems in self.problems]
        prompts = [problem.prompt.without_gold() for problems in self.problems for problem in problems]
        self.limited = limited_prompts(prompts, self.tokenizer, RECIPE.render, CONDITIONING)
        self.union, self.report = condition_pairs(self.pairs[0], CONDITIONING, self.limited, numbers_of_pairs(0))

    def _ranked(self, problems: Sequence[Problem]) -> pa.Table:
        groups = list(self.policy.traces(problems, RECIPE.sampling.model_copy(update={"max_new_tokens": 96})))
        signal = get_signal(RECIPE.signal)
        texts = {
            problem.id: render(problem.prompt.without_gold(), self.tokenizer, RECIPE.render).text
            for problem in problems
        }
        return rank(groups, [confidences(group, signal, self.tokenizer) for group in groups], RANKING, texts)[0]

    def measured(self, name: str, epochs: float, seed: int) -> dict[str, Any]:
        """Train a variant and measure it on the pairs that were kept out."""
        parts, as_many_steps = VARIANTS[name]
        pairs = self.union.filter(pa.array([part in parts for part in self.union["part"].to_pylist()]))
        config = RewardModelConfig(use_margin=False, learning_rate=3e-4, batch_size=16, epochs=epochs, save_every=10**6)
        steps = config.optimiser_steps(self.union.num_rows if as_many_steps else pairs.num_rows)
        config = config.model_copy(update={"max_steps": steps})
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "reward_model"
            train_reward_model(
                model=cast(PreTrainedModel, load_model(on_cpu())),
                tokenizer=self.tokenizer,
                preferences=pairs,
                config=config,
                folder=Path(place) / "checkpoints",
                reward_folder=folder,
                seed=seed,
            )
            seconds = time.monotonic() - started
            model = load_reward_model(ModelConfig(path=str(folder), device="cpu", dtype="float32"))
        found: LengthBias = measure_length_bias(
            model, self.pairs[1], CONDITIONING, self.limited, numbers_of_pairs(1), resamples=500
        )
        return {"variant": name, "seed": seed, "steps": steps, "seconds": seconds, **found.model_dump(mode="json")}


def table(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """One line a variant: in percent, and the correlation of reward and words; means, and the range over seeds."""
    lines = []
    for name in dict.fromkeys(row["variant"] for row in rows):
        mine = [row for row in rows if row["variant"] == name]
        cell = Cells(mine, ranges=True)
        shares = (cell(".1f", share, "accuracy", scale=100) for share in SHARES)
        lines.append([name, str(mine[0]["steps"]), *shares, cell("+.2f", "length_correlation")])
    return lines


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of heads and batches")
    parser.add_argument("--page", type=Path, metavar="FILE", help="a Markdown page to write the table into")
    given = parser.parse_args()
    bench = Bench(*((24, 12) if given.quick else (50, 60)))
    names = QUICK if given.quick else tuple(VARIANTS)
    rows = []
    for seed in given.seeds:
        for name in names:
            rows.append(bench.measured(name, epochs=0.2 if given.quick else 1.0, seed=seed))
            # What is done is kept: the whole takes minutes.
            write_json(given.json, {"conditioning": _report(bench), "runs": rows})
    first, found = rows[0], table(rows)
    show(
        f"{first['pairs']} pairs of {len(bench.problems[1])} other questions; the better trace is longer in"
        f" {100 * first['longer_chosen']:.0f} %",
        HEADER,
        found,
    )
    if given.page is not None:
        write_tables(given.page, {"length bias": (HEADER, found)})


def _report(bench: Bench) -> dict[str, int]:
    names = ("pairs", "too_short", "comparisons", "longer_chosen", "shorter_chosen")
    return {name: getattr(bench.report, name) for name in names}


if __name__ == "__main__":
    main()
