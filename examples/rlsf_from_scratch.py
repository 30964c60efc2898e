"""Reinforcement learning from self-feedback (arXiv 2507.21931) from scratch: PyTorch and transformers, nothing hidden.

    python examples/rlsf_from_scratch.py

A model answers each question in K ways, and each way is scored by how sure the model was of its final answer. Answers
that it was sure of are preferred to those that it was less sure of, and direct preference optimisation (DPO) trains
the model on these preferences. Nobody says which answers are right: gold answers only measure what came of it.

The model is the one that comes with rlsf, a million weights that do arithmetic, and so are the questions. Left to
itself it blurts out an answer; begun with another word, it works the answer out, and is surer of it.

Letters in shapes: P prompts, K branches, R = P x K rows, L tokens of a prompt, T tokens of a trace, V the vocabulary.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlsf.demo import MODEL_DIR
from rlsf.demo.tasks import Problem, Split, stream


@dataclass
class Trace:
    """One way of answering a question."""

    prompt_ids: list[int]
    ids: list[int]  # what the model wrote, its end-of-sequence token included
    finished: bool  # whether it came to an end by itself
    text: str = ""
    answer: str | None = None  # the last number in the text
    span: tuple[int, int] = (0, 0)  # the tokens [start, end) of the answer
    confidence: float = 0.0


Pair = tuple[Trace, Trace]  # the preferred trace and the other one


# 1. Branches. Greedy decoding shows one way to answer. CoT-decoding (arXiv 2402.10200) shows K: it begins with each of
#    the K most likely first tokens, and goes on greedily from there.


@torch.no_grad()
def branches(
    model: Any, tokenizer: Any, prompts: Sequence[str], count: int, budget: int, batch: int = 32
) -> list[list[Trace]]:
    """``count`` traces of each prompt, of at most ``budget`` tokens, the most likely first token first."""
    return [traces for some in chunks(prompts, batch) for traces in _branches(model, tokenizer, some, count, budget)]


def _branches(model: Any, tokenizer: Any, prompts: Sequence[str], count: int, budget: int) -> Iterator[list[Trace]]:
    inputs = tokenizer(list(prompts), padding=True, padding_side="left", return_tensors="pt")
    mask = inputs.attention_mask  # [P, L]: prompts end in the last column, whatever their length
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    read = model(inputs.input_ids, attention_mask=mask, position_ids=positions)
    tokens = read.logits[:, -1].topk(count).indices.flatten()  # [P, V] -> [R]: the first tokens of all branches
    cache = read.past_key_values  # each prompt was read once; its branches share what was read
    cache.batch_repeat_interleave(count)
    mask, positions = (rows.repeat_interleave(count, 0) for rows in (mask, positions[:, -1:]))

    written = [[token] for token in tokens.tolist()]
    live = torch.arange(len(written))  # the rows that have not come to their end
    for _ in range(budget - 1):
        going_on = (tokens != tokenizer.eos_token_id).nonzero().squeeze(1)
        if not len(going_on):
            break
        cache.batch_select_indices(going_on)
        live, tokens, positions = live[going_on], tokens[going_on], positions[going_on] + 1
        mask = F.pad(mask[going_on], (0, 1), value=1)
        step = model(tokens[:, None], attention_mask=mask, position_ids=positions, past_key_values=cache)
        tokens = step.logits[:, -1].argmax(-1)  # [R, V] -> [R]: greedy
        for row, token in zip(live.tolist(), tokens.tolist(), strict=True):
            written[row].append(token)
    for prompt, ids in zip(prompts, chunks(written, count), strict=True):
        yield [Trace(tokenizer(prompt).input_ids, row, row[-1] == tokenizer.eos_token_id) for row in ids]


# 2. The answer, and the tokens that spell it: confidence is measured there and nowhere else.

NUMBER = re.compile(r"\d+(?:\.\d+)?")


def find_answer(trace: Trace, tokenizer: Any) -> None:
    """Note the last number of a trace and where it stands."""
    pieces = [tokenizer.decode([token], skip_special_tokens=True) for token in trace.ids]
    ends = list(itertools.accumulate(map(len, pieces)))  # where each token's characters end
    trace.text = "".join(pieces)
    if found := list(NUMBER.finditer(trace.text)):
        start, end = found[-1].span()
        first = next(token for token, stop in enumerate(ends) if stop > start)
        last = next(token for token, stop in enumerate(ends) if stop >= end)
        trace.answer, trace.span = found[-1].group(), (first, last + 1)


# 3. Confidence: the mean probability disparity over the tokens of the answer.


def token_logits(model: Any, traces: Sequence[Trace]) -> list[Tensor]:
    """The logits that each token of each trace was chosen by, one [T, V] a trace: a single forward pass over all."""
    rows = [torch.tensor(trace.prompt_ids + trace.ids) for trace in traces]
    # Padding on the right needs no mask: no token sees what comes after it.
    logits = model(pad_sequence(rows, batch_first=True)).logits  # [R, L + T, V]
    starts = [len(trace.prompt_ids) - 1 for trace in traces]  # the logits after one token choose the next
    return [
        logits[row, start : start + len(trace.ids)]
        for row, (start, trace) in enumerate(zip(starts, traces, strict=True))
    ]


def disparity(logits: Tensor, ids: Sequence[int]) -> Tensor:
    """max(0, p(token) - p(likeliest other token)), from the logits [T, V] of T tokens: [T]."""
    probabilities, chosen = logits.softmax(-1), torch.tensor(ids)[:, None]
    others = probabilities.scatter(1, chosen, 0.0).amax(1)
    return (probabilities.gather(1, chosen).squeeze(1) - others).clamp(min=0)


@torch.no_grad()
def score(model: Any, tokenizer: Any, traces: Sequence[Trace], batch: int = 64) -> None:
    """Find the answer of every trace, and how sure the model was of it; without an answer it is 0."""
    for some in chunks(traces, batch):
        for trace, logits in zip(some, token_logits(model, some), strict=True):
            find_answer(trace, tokenizer)
            start, end = trace.span
            if trace.answer is not None:
                trace.confidence = disparity(logits[start:end], trace.ids[start:end]).mean().item()


# 4. Pairs: whoever is sure wins against whoever is less sure.


def preference_pairs(traces: Sequence[Trace], threshold: float) -> list[Pair]:
    """All pairs (i, j) of one question's traces with C_i >= threshold and C_i > C_j.

    Traces that were cut, or hold no answer, take no part.
    """
    ranked = [trace for trace in traces if trace.finished and trace.answer is not None]
    return [
        (chosen, rejected)
        for chosen, rejected in itertools.permutations(ranked, 2)
        if chosen.confidence >= threshold and chosen.confidence > rejected.confidence
    ]


# 5. Training: DPO (arXiv 2305.18290) against the model as it was, plus a little imitation of what is preferred.


def log_likelihoods(model: Any, traces: Sequence[Trace]) -> Tensor:
    """log pi(trace | prompt) of each trace, in nats: [R]."""
    sums = [
        logits.log_softmax(-1).gather(1, torch.tensor(trace.ids)[:, None]).sum()
        for trace, logits in zip(traces, token_logits(model, traces), strict=True)
    ]
    return torch.stack(sums)


def dpo_loss(policy: Any, reference: Any, pairs: Sequence[Pair], beta: float, nll_weight: float) -> Tensor:
    """Mean over pairs of -log sigmoid(beta h) + nll_weight x NLL of the chosen trace per token.

    h = (log pi - log pi_ref)(chosen) - (log pi - log pi_ref)(rejected). DPO alone cares for differences only, and may
    make both traces unlikely; the second term keeps the chosen one likely (arXiv 2404.19733).
    """
    traces = [chosen for chosen, _ in pairs] + [rejected for _, rejected in pairs]
    own = log_likelihoods(policy, traces)
    with torch.no_grad():
        before = log_likelihoods(reference, traces)
    gained_by_chosen, gained_by_rejected = (own - before).chunk(2)
    lengths = torch.tensor([len(chosen.ids) for chosen, _ in pairs])
    nll = -own[: len(pairs)] / lengths
    return (-F.logsigmoid(beta * (gained_by_chosen - gained_by_rejected)) + nll_weight * nll).mean()


def train(policy: Any, pairs: Sequence[Pair], steps: int, batch: int = 16, rate: float = 1e-4) -> list[float]:
    """At most ``steps`` steps on pairs in random order, each once; returns the losses."""
    reference = copy.deepcopy(policy).eval()
    optimiser = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0.0)
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0)).tolist()
    batches = list(chunks([pairs[place] for place in order], batch))[:steps]
    losses = []
    for step, some in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = rate * (1 - step / len(batches))
        loss = dpo_loss(policy, reference, some, beta=0.2, nll_weight=1.0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    return losses


# 6. Measuring, with gold answers: how often the model is right, and whether it knows.


def calibration_error(confidences: Sequence[float], correct: Sequence[bool], bins: int = 10) -> float:
    """ECE: |accuracy - mean confidence| within each of ten equal bins of confidence, weighed by how many are in it."""
    gaps = [0.0] * bins
    for confidence, right in zip(confidences, correct, strict=True):
        gaps[min(int(confidence * bins), bins - 1)] += right - confidence
    return sum(map(abs, gaps)) / len(confidences)


def measure(model: Any, tokenizer: Any, questions: Sequence[Problem], budget: int) -> dict[str, float]:
    """Accuracy, ECE and mean length (tokens) of greedy decoding, which is CoT-decoding with one branch."""
    traces = [row[0] for row in branches(model, tokenizer, [question.text for question in questions], 1, budget)]
    score(model, tokenizer, traces)
    correct = [trace.answer == question.gold for trace, question in zip(traces, questions, strict=True)]
    return {
        "accuracy": sum(correct) / len(correct),
        "ece": calibration_error([trace.confidence for trace in traces], correct),
        "tokens": sum(len(trace.ids) for trace in traces) / len(traces),
    }


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """The items, ``size`` at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


def questions(split: Split, count: int) -> list[Problem]:
    """Questions whose answer is a number; no question of one split has the numbers of another's."""
    return list(itertools.islice((problem for problem in stream(split) if not problem.choices), count))


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    """The whole algorithm, and what it did."""
    parser = argparse.ArgumentParser(description="RLSF from scratch, on the model that comes with rlsf.")
    parser.add_argument("--questions", type=int, default=200, help="to learn from, without answers")
    parser.add_argument("--test", type=int, default=300, help="held-out questions, with answers")
    parser.add_argument("--branches", type=int, default=10, help="traces of each question")
    parser.add_argument("--steps", type=int, default=60, help="optimiser steps, of 16 pairs")
    options, started, budget = parser.parse_args(arguments), time.monotonic(), 96

    tokenizer, policy = AutoTokenizer.from_pretrained(MODEL_DIR), AutoModelForCausalLM.from_pretrained(MODEL_DIR).eval()
    asked, held_out = questions("self_training", options.questions), questions("test", options.test)
    results = {"before": measure(policy, tokenizer, held_out, budget)}

    grouped = branches(policy, tokenizer, [question.text for question in asked], options.branches, budget)
    score(policy, tokenizer, [trace for traces in grouped for trace in traces])
    pairs = [pair for traces in grouped for pair in preference_pairs(traces, threshold=0.9)]
    print(f"{len(asked)} questions, {sum(map(len, grouped))} traces, {len(pairs)} pairs; one of them:")
    for side, trace in zip(("preferred", "to"), pairs[0] if pairs else (), strict=False):
        print(f"  {side:9} {trace.text!r}  confidence {trace.confidence:.2f}")

    losses = train(policy, pairs, options.steps)
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f} in {len(losses)} steps" if losses else "nothing to train on")
    results["after"] = measure(policy, tokenizer, held_out, budget)
    print(f"{'greedy':8}{'accuracy':>10}{'ECE':>8}{'tokens':>8}")
    for when, figures in results.items():
        print(f"{when:8}{figures['accuracy']:10.1%}{figures['ece']:8.3f}{figures['tokens']:8.1f}")
    print(f"{time.monotonic() - started:.0f} s")
    return results


if __name__ == "__main__":
    main()
