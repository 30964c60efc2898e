"""P(True) of a question's samples: what reading their common beginning once spares, and what it is worth.

python benchmarks/judging.py [--quick] [--json FILE]

Cost: a random Qwen2 of four layers of the 0.5B model's width judges five reasonings of a question beside each other and
each one's answer, with a vocabulary of words. The plain way asks with one forward pass a question, looking at the last
logits alone, as one would without further thought. Both see the same ids; their confidences are compared. Tokens are
those that forward passes were given. Other work on the same cores spoils the seconds, not the tokens.

Worth: the bundled model judges its own samples. It spells True and False in letters and was never asked whether
something is right; areas under the ROC curve (0.5 is chance) tell right from wrong samples, over all questions and
within those that have both, and beside it what its own signals reach on the same samples.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from _bundled import Policy, on_cpu
from _shared import options, show, write_json
from rlsf.answers import TokenText
from rlsf.answers.equivalence import Grader
from rlsf.confidence import get_signal
from rlsf.demo.tasks import generate
from rlsf.judging import Case, Judge, JudgeConfig
from rlsf.judging.wording import Questions
from rlsf.models import load_model, load_tokenizer
from rlsf.recipes import resolve
from rlsf.sampling import SamplingConfig
from sampling import random_qwen2

SAMPLES = 5
SAMPLING = SamplingConfig(strategy="sampling", branches=SAMPLES, temperature=1.0, top_p=0.9, max_new_tokens=96)
SIGNALS = ("answer_disparity", "trace_confidence")


def words_tokenizer(words: int = 2000) -> PreTrainedTokenizerFast:
    """One word a token; what it does not know is a token too."""
    known = ["<unk>", "True", "False", "<eos>", *(f"w{number}" for number in range(words))]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(known)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<eos>")


def random_cases(count: int, question: int, reasoning: int) -> list[Case]:
    """Questions of so many words, each with reasonings of about so many."""
    numbers = random.Random(0)

    def text(length: int) -> str:
        return " ".join(f"w{numbers.randrange(2000)}" for _ in range(length))

    return [
        Case(
            prompt_id=str(place),
            question=text(question),
            choices=(),
            reasonings=tuple(text(reasoning + numbers.randrange(-reasoning // 5, 1)) for _ in range(SAMPLES)),
            answers=tuple(text(1) for _ in range(SAMPLES)),
        )
        for place in range(count)
    ]


@contextmanager
def counted(model: PreTrainedModel) -> Iterator[list[int]]:
    """The numbers of tokens that forward passes are given meanwhile."""
    tokens: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda module, given, named: tokens.append(named["input_ids"].numel()), with_kwargs=True
    )
    try:
        yield tokens
    finally:
        hook.remove()


@torch.no_grad()
def one_by_one(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, judge: Judge, cases: list[Case]) -> Any:
    """P(True) of every reasoning and answer, one forward pass each."""
    words = [tokenizer.convert_tokens_to_ids(word) for word in ("True", "False")]

    def two_way(text: str) -> float:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        logits: Any = model(input_ids=ids, logits_to_keep=1, use_cache=False).logits
        true, false = logits[0, -1].float().softmax(-1)[words].tolist()
        return true / (true + false)

    found = []
    for case in cases:
        questions = Questions(judge.config, case)
        attempts = judge.attempts(case)
        for number, answer in enumerate(case.answers):
            assert answer is not None
            found.append(two_way(questions.about_reasoning(number, attempts)))
            found.append(two_way(questions.about_answer(number, answer)))
    return found


def all_at_once(judge: Judge, cases: list[Case]) -> list[float | None]:
    """The same by the judge."""
    return [
        value
        for judgements in judge.judge(cases)
        for judgement in judgements
        for value in (judgement.confidence("reasoning"), judgement.confidence("answer"))
    ]


def cost(quick: bool) -> dict[str, Any]:
    """Seconds, tokens and passes of both ways, and how far their confidences differ."""
    model, tokenizer = random_qwen2(layers=4), words_tokenizer()
    judge = Judge(model, tokenizer, JudgeConfig(context=SAMPLES - 1))
    cases = random_cases(2 if quick else 8, question=100, reasoning=100 if quick else 250)
    ways: dict[str, Callable[[], Any]] = {
        "one forward pass a question": lambda: one_by_one(model, tokenizer, judge, cases),
        "beginnings read once": lambda: all_at_once(judge, cases),
    }
    figures, values = {}, []
    for name, way in ways.items():
        with counted(model) as tokens:
            started = time.perf_counter()
            values.append(way())
            figures[name] = {"seconds": time.perf_counter() - started, "tokens": sum(tokens), "passes": len(tokens)}
    difference = max(abs(one - other) for one, other in zip(*values, strict=True))
    return {"judged": len(values[0]), "ways": figures, "largest_difference": difference}


def areas(values: Sequence[Sequence[float | None]], right: Sequence[Sequence[bool]]) -> dict[str, float]:
    """P(a right sample has more than a wrong one), ties half: of all samples, and of those of the same question."""
    everything = [list(itertools.chain(*values))], [list(itertools.chain(*right))]
    return {"overall": _area(*everything), "within": _area(values, right)}


def _area(values: Sequence[Sequence[float | None]], right: Sequence[Sequence[bool]]) -> float:
    return float(
        np.mean(
            [
                (one > other) + 0.5 * (one == other)
                for group, verdicts in zip(values, right, strict=True)
                for one, good in zip(group, verdicts, strict=True)
                for other, bad in zip(group, verdicts, strict=True)
                if good and not bad and one is not None and other is not None
            ]
        )
    )


def worth(quick: bool) -> dict[str, Any]:
    """Areas of the bundled model's P(True) and signals on its own samples."""
    model, tokenizer = load_model(on_cpu()), load_tokenizer(on_cpu())
    problems = generate("test", 20 if quick else 100)
    groups = list(Policy(model, tokenizer, resolve("core-po")).traces(problems, SAMPLING))
    with Grader() as grader:
        right = [
            [
                trace.answer is not None and bool(grader(trace.answer.text, problem.gold, problem.choices))
                for trace in group
            ]
            for problem, group in zip(problems, groups, strict=True)
        ]
    cases = [
        Case(
            problem.id,
            problem.text,
            tuple(problem.choices),
            tuple(trace.text for trace in group),
            tuple(trace.answer.text if trace.answer else None for trace in group),
        )
        for problem, group in zip(problems, groups, strict=True)
    ]
    judged = list(Judge(model, tokenizer, JudgeConfig(template="terse")).judge(cases))
    found = {
        f"P(True), {kind}": areas([[one.confidence(kind) for one in group] for group in judged], right)
        for kind in ("reasoning", "answer", "composite")
    }
    raw = [[one.confidence("composite", "raw") for one in group] for group in judged]
    found["P(True), composite, raw"] = areas(raw, right)
    for name in SIGNALS:
        signal = get_signal(name)
        measured = [
            [signal.confidence(trace, TokenText.from_ids(tokenizer, trace.token_ids).pieces) for trace in group]
            for group in groups
        ]
        found[name] = areas(measured, right)
    spoken = [said.true + said.false for group in judged for one in group for said in one.reasoning]
    accuracy = float(np.mean([good for group in right for good in group]))
    return {"samples": sum(map(len, right)), "accuracy": accuracy, "spoken": float(np.mean(spoken)), "areas": found}


def main() -> None:
    """Two tables."""
    arguments = options(__doc__.splitlines()[0]).parse_args()
    figures = {"quick": arguments.quick, "cost": cost(arguments.quick), "worth": worth(arguments.quick)}
    of_cost, of_worth = figures["cost"], figures["worth"]
    show(
        f"{of_cost['judged']} judgements, {torch.get_num_threads()} threads; the two ways differ by at most"
        f" {of_cost['largest_difference']:.1g}",
        ["way", "s", "tokens read", "forward passes"],
        [
            [name, f"{row['seconds']:.2f}", f"{row['tokens']:,}", str(row["passes"])]
            for name, row in of_cost["ways"].items()
        ],
    )
    show(
        f"{of_worth['samples']} samples of the bundled model, {100 * of_worth['accuracy']:.0f} % right; True and False"
        f" together have a mean probability of {of_worth['spoken']:.1g}",
        ["confidence", "area, all", "area, within questions"],
        [[name, f"{row['overall']:.3f}", f"{row['within']:.3f}"] for name, row in of_worth["areas"].items()],
    )
    write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
