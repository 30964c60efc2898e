"""The loop of RLSF's DPO route as a user of transformers and TRL writes it: one process, nothing of rlsf.

python _end_to_end_peer.py SETTINGS.json RESULT.json

Written for this benchmark after the paper (arXiv 2507.21931), with what those libraries offer to be fast: prompts of
similar length are batched, the branches of a prompt go through ``generate`` together, log-probabilities are TRL's fused
ones, and no more pairs are tokenised than are trained on. TRL's NLL is a mean over the tokens of a batch, where rlsf
takes the mean of each trace first; which pairs make a batch differs too.
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from transformers.utils import logging
from trl import DPOConfig, DPOTrainer

Question = dict[str, Any]


class Trace(NamedTuple):
    """``confidence`` is the mean disparity over the tokens of the answer."""

    text: str
    ended: bool
    answer: str | None
    confidence: float


class Loop:
    """A model, its tokenizer, and the seconds that each stage took."""

    def __init__(self, path: str, rows: int, new_tokens: int) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.rows, self.new_tokens = rows, new_tokens
        ids = [[token] for token in range(len(self.tokenizer))]
        self.pieces = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started

    @torch.inference_mode()
    def traces(self, questions: Sequence[Question], branches: int) -> list[list[Trace]]:
        """The greedy continuations of the likeliest first tokens of each question."""
        found: dict[int, list[Trace]] = {}
        order = sorted(range(len(questions)), key=lambda index: len(prompt(questions[index])))
        size = max(1, self.rows // branches)
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            inputs = self.tokenizer([prompt(questions[index]) for index in batch], padding=True, return_tensors="pt")
            rows = self._decode(inputs.input_ids, inputs.attention_mask, branches)
            for index in batch:
                found[index] = [self._read(questions[index], *next(rows)) for _ in range(branches)]
        return [found[index] for index in range(len(questions))]

    def _decode(self, ids: Tensor, mask: Tensor, branches: int) -> Iterator[tuple[list[int], list[float]]]:
        """Token ids and the disparity of each, p(token) less the largest other probability, a row a branch."""
        first: list[Tensor] = []
        if branches > 1:
            logits = self._generate(ids, mask, 1).logits[0]
            ids = torch.cat([ids.repeat_interleave(branches, 0), logits.topk(branches).indices.view(-1, 1)], dim=1)
            mask = torch.cat([mask.repeat_interleave(branches, 0), mask.new_ones(len(ids), 1)], dim=1)
            first = [logits.repeat_interleave(branches, 0)]
        done = self._generate(ids, mask, self.new_tokens - len(first))
        logits = torch.stack([*first, *done.logits], dim=1)
        tokens = done.sequences[:, -logits.shape[1] :].unsqueeze(2)
        total, chosen = logits.logsumexp(2), logits.gather(2, tokens).squeeze(2)
        others = logits.scatter_(2, tokens, -torch.inf).amax(2)
        disparity = (chosen - total).exp() - (others - total).exp()
        yield from zip(tokens.squeeze(2).tolist(), disparity.clamp(min=0).tolist(), strict=True)

    def _generate(self, ids: Tensor, mask: Tensor, new_tokens: int) -> Any:
        options = {"do_sample": False, "output_logits": True, "return_dict_in_generate": True}
        return self.model.generate(ids, attention_mask=mask, max_new_tokens=new_tokens, **options)

    def _read(self, question: Question, ids: list[int], disparity: list[float]) -> Trace:
        """The last number of a trace, or its last option where there are options, and how sure its tokens are."""
        end = self.tokenizer.eos_token_id
        ended = end in ids
        pieces = [self.pieces[token] for token in (ids[: ids.index(end)] if ended else ids)]
        text, ends = "".join(pieces), list(accumulate(map(len, pieces)))
        answer = "|".join(map(re.escape, question.get("choices", []))) or r"\d+"
        occurrences = list(re.finditer(rf"\b(?:{answer})\b", text))
        if not occurrences:
            return Trace(text, ended, None, 0.0)
        first, last = occurrences[-1].span()
        tokens = zip([0, *ends[:-1]], ends, disparity, strict=False)
        span = [value for start, stop, value in tokens if start < last and stop > first]
        return Trace(text, ended, occurrences[-1][0], sum(span) / len(span))

    def evaluate(self, questions: Sequence[Question]) -> list[tuple[float, bool]]:
        """Confidence and correctness of the greedy answer to each question."""
        with self.stage("evaluate"):
            answers = [traces[0] for traces in self.traces(questions, branches=1)]
            pairs = zip(answers, map(gold, questions), strict=True)
            return [(trace.confidence, trace.answer == correct) for trace, correct in pairs]

    def train(self, pairs: list[dict[str, str]], training: dict[str, Any], folder: str, seed: int) -> None:
        """Direct preference optimisation with the NLL of the chosen trace."""
        arguments = DPOConfig(
            output_dir=folder,
            **{name: training[name] for name in ("beta", "learning_rate", "max_steps")},
            per_device_train_batch_size=training["batch_size"],
            loss_type=["sigmoid", "sft"],
            loss_weights=[1.0, training["nll_weight"]],
            seed=seed,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            dataloader_pin_memory=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        with self.stage("train"):
            needed = min(len(pairs), training["max_steps"] * training["batch_size"])
            rows = Dataset.from_list(random.sample(pairs, needed))
            DPOTrainer(self.model, args=arguments, train_dataset=rows, processing_class=self.tokenizer).train()
            self.model.eval()
            self.model.save_pretrained(folder)


def prompt(question: Question) -> str:
    """A question as the bundled model reads it."""
    options = zip("ABCD", question.get("choices", []), strict=False)
    return f"Q: {question['question']}{''.join(f'{chr(10)}({letter}) {text}' for letter, text in options)}\nA:"


def gold(question: Question) -> str:
    """The right answer; where there are options, the text of the right one."""
    return question["choices"]["ABCD".index(question["answer"])] if "choices" in question else question["answer"]


def ranked(questions: Sequence[Question], groups: Sequence[list[Trace]], threshold: float) -> list[dict[str, str]]:
    """Every pair of traces that end and answer, of which the surer one reaches the threshold."""
    pairs = []
    for question, group in zip(questions, groups, strict=True):
        usable = [trace for trace in group if trace.ended and trace.answer is not None]
        for chosen in usable:
            worse = [
                trace for trace in usable if chosen.confidence >= threshold and chosen.confidence > trace.confidence
            ]
            pairs += [{"prompt": prompt(question), "chosen": chosen.text, "rejected": other.text} for other in worse]
    return pairs


def main() -> None:
    settings, result = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    logging.disable_progress_bar()
    set_seed(settings["seed"])
    files = (Path(settings[name]) for name in ("learn", "test"))
    to_learn, to_measure = ([json.loads(row) for row in file.read_text().splitlines()] for file in files)
    loop = Loop(settings["model"], settings["rows"], settings["new_tokens"])
    before = loop.evaluate(to_measure)
    with loop.stage("sample"):
        groups = loop.traces(to_learn, settings["branches"])
    with loop.stage("rank"):
        pairs = ranked(to_learn, groups, settings["threshold"])
    loop.train(pairs, settings["training"], str(result.with_suffix("")), settings["seed"])
    after = loop.evaluate(to_measure)
    result.write_text(json.dumps({"seconds": loop.seconds, "pairs": len(pairs), "before": before, "after": after}))


if __name__ == "__main__":
    main()
