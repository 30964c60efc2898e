"""P(True): a model says of reasonings, and of answers, whether they are correct."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlsf.judging.config import JudgeConfig
from rlsf.judging.judgement import Case, Judgement, Said
from rlsf.judging.statements import statements
from rlsf.judging.wording import Questions
from rlsf.judging.words import Verdicts
from rlsf.models import context_length
from rlsf.prompts import Prompt, render
from rlsf.prompts.config import RenderConfig
from rlsf.sampling.batching import BATCHES_IN_A_WINDOW
from rlsf.sampling.randomness import trace_uniforms
from rlsf.scoring import Scorer


@dataclass(frozen=True, slots=True)
class _Asked:
    """One question as token ids; ``reasoning`` is the number of the reasoning that it is about."""

    reasoning: int
    about_answer: bool
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is asked of a case, and how many attempts whole reasonings stand beside."""

    case: Case
    attempts: int
    asked: tuple[_Asked, ...]


class Judge:
    """Judges the samples of a policy, as a rule by that same policy (CORE-PO, arXiv 2505.17454).

    P(True) of a question is the probability that the model's next words are ``config.true_word``: the sum over its
    variants as tokens (``rlsf.judging.words``), against ``config.false_word`` where it is renormalised.

    A whole reasoning is judged after M + 1 attempts at the question, drawn once a question by ``seed`` and its id and
    shown in drawn order: with N = M + 1 samples, as published, each is judged beside the M others and its own place
    among them; one that was not drawn stands beside M + 1 others. So all samples of a question have one beginning, read
    once. Without ``config.own_attempt`` each stands beside the others of the drawn ones, M at most, and little is
    shared. Where this would not fit the model's context, fewer attempts are shown; a reasoning that does not fit
    without any has no confidence. Answers are judged given question and reasoning alone, statements given the question
    and the statements before them.

    ``render`` says whether and how the chat template is applied; its system prompt and examples are for solving, and
    are left out. Raises ``InputError`` where the tokenizer cannot write the words, and as ``Scorer`` does.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: JudgeConfig | None = None,
        *,
        render: RenderConfig | None = None,
        seed: int = 0,
        batch_tokens: int | None = None,
    ) -> None:
        self.config = config or JudgeConfig()
        given = render or RenderConfig()
        self._render = RenderConfig(template="{question}", chat=given.chat, chat_arguments=given.chat_arguments)
        self._tokenizer, self._seed = tokenizer, seed
        self._scorer = Scorer(model, tokenizer, batch_tokens=batch_tokens)
        self._words = Verdicts.of(tokenizer, self.config.true_word, self.config.false_word)
        context = context_length(model)
        self._limit = None if context is None else context - max(map(len, self._words.spellings))

    def judge(self, cases: Iterable[Case]) -> Iterator[list[Judgement]]:
        """The judgements of each case, one a reasoning, in the order of the cases.

        Neither the order of cases nor the batch changes a judgement beyond rounding. Holds about eight batches of
        questions at a time.
        """
        window: list[_Plan] = []
        used = 0
        for case in cases:
            plan = self._plan(case)
            window.append(plan)
            used += sum(len(asked.ids) for asked in plan.asked)
            if used >= BATCHES_IN_A_WINDOW * self._scorer.batch_tokens:
                yield from self._judge(window)
                window, used = [], 0
        yield from self._judge(window)

    def _plan(self, case: Case) -> _Plan:
        questions = Questions(self.config, case)
        about_answers = [
            (number, True, questions.about_answer(number, answer))
            for number, answer in enumerate(case.answers)
            if answer is not None and self.config.confidence != "reasoning"
        ]
        texts, attempts = self._about_reasonings(case, questions) if self.config.confidence != "answer" else ([], 0)
        found = [_Asked(number, about, self._ids(text)) for number, about, text in [*texts, *about_answers]]
        # Of a reasoning with one statement that cannot be asked about, none is.
        too_long = {(one.reasoning, one.about_answer) for one in found if not self._fits(one.ids)}
        asked = tuple(one for one in found if (one.reasoning, one.about_answer) not in too_long)
        return _Plan(case, attempts, asked)

    def _about_reasonings(self, case: Case, questions: Questions) -> tuple[list[tuple[int, bool, str]], int]:
        """(number of the reasoning, False, text) of all there is to ask about them, and beside how many attempts."""
        present = _present(case)
        if self.config.reasoning == "statement_wise":
            return [
                (number, False, questions.about_statement("".join(parts[:place]), parts[place]))
                for number in present
                for parts in [statements(case.reasonings[number], self.config.statements)]
                for place in range(len(parts))
            ], 0
        attempts = self.attempts(case)
        while True:
            beside = {number: self._beside(number, attempts) for number in present}
            texts = [(number, False, questions.about_reasoning(number, beside[number])) for number in present]
            if not attempts or all(self._fits(self._ids(text)) for _, _, text in texts):
                return texts, max(map(len, beside.values()), default=0)
            attempts = attempts[:-1] if len(attempts) > 2 else []

    def attempts(self, case: Case) -> list[int]:
        """M + 1 of the reasonings, in an order that the seed and the question's id decide; no lone one."""
        present = _present(case)
        if not self.config.context or len(present) < 2:
            return []
        uniforms = trace_uniforms(self._seed, case.prompt_id, 0, len(case.reasonings))
        drawn = sorted(present, key=lambda number: uniforms[number])
        return drawn[: self.config.context + 1]

    def _beside(self, number: int, attempts: list[int]) -> list[int]:
        """Those of the attempts that are shown with a reasoning, as many as with any other of the question."""
        if self.config.own_attempt or not attempts:
            return attempts
        return [attempt for attempt in attempts if attempt != number][: len(attempts) - 1]

    def _ids(self, text: str) -> tuple[int, ...]:
        return render(Prompt("judging", text), self._tokenizer, self._render).token_ids

    def _fits(self, ids: Sequence[int]) -> bool:
        return self._limit is None or len(ids) <= self._limit

    def _judge(self, plans: Sequence[_Plan]) -> Iterator[list[Judgement]]:
        said = iter(self._said([split for plan in plans for split in _with_beginnings(plan.asked)]))
        for plan in plans:
            yield self._judgements(plan, list(itertools.islice(said, len(plan.asked))))

    def _said(self, questions: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[Said]:
        """What is said after each question, given as what it shares with others and its own part."""
        token_sets = self._words.token_sets
        if token_sets is None:
            return self._spelt([shared + own for shared, own in questions])
        return [Said(*masses) for masses in self._scorer.masses(questions, token_sets).tolist()]

    def _spelt(self, questions: Sequence[tuple[int, ...]]) -> list[Said]:
        """The same of words that take several tokens: sum over spellings of prod_k p(s_k | s_<k).

        A question is read once for all spellings; what questions share is not.
        """
        spellings = self._words.spellings
        rows = [(question, spelling) for question in questions for spelling in spellings]
        if not rows:
            return []
        ends = torch.tensor([len(question) + len(spelling) for question, spelling in rows]).unsqueeze(1)
        starts = torch.tensor([len(question) for question, _ in rows]).unsqueeze(1)
        places = torch.arange(int(ends.max()))
        ids = torch.zeros(len(rows), len(places), dtype=torch.int64)
        for row, (question, spelling) in zip(ids, rows, strict=True):
            row[: len(question) + len(spelling)] = torch.tensor([*question, *spelling])
        keep = (places >= starts) & (places < ends)
        logprobs = self._scorer.statistics(ids, (places < ends).long(), keep).logprob.double().cpu()
        parts = logprobs.split((ends - starts).flatten().tolist())
        probabilities = torch.stack([part.sum().exp() for part in parts]).view(-1, len(spellings))
        words = probabilities.split([len(self._words.true), len(self._words.false)], dim=1)
        # Rounding may lift a sum above one.
        return [Said(*pair) for pair in torch.stack([word.sum(1) for word in words], 1).clamp(max=1.0).tolist()]

    def _judgements(self, plan: _Plan, said: Sequence[Said]) -> list[Judgement]:
        by_reasoning: dict[tuple[int, bool], list[Said]] = defaultdict(list)
        for asked, words in zip(plan.asked, said, strict=True):
            by_reasoning[asked.reasoning, asked.about_answer].append(words)
        return [
            Judgement(
                tuple(by_reasoning[number, False]),
                next(iter(by_reasoning[number, True]), None),
                plan.attempts if by_reasoning[number, False] else 0,
            )
            for number in range(len(plan.case.reasonings))
        ]


def _present(case: Case) -> list[int]:
    """The reasonings that say something."""
    return [number for number, reasoning in enumerate(case.reasonings) if reasoning.strip()]


def _with_beginnings(asked: Sequence[_Asked]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The ids of each question in two parts: with the first, all questions of its kind in a case begin."""
    beginnings = {kind: _beginning([one.ids for one in asked if one.about_answer is kind]) for kind in (False, True)}
    for one in asked:
        shared = beginnings[one.about_answer]
        yield one.ids[:shared], one.ids[shared:]


def _beginning(sequences: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all of them begin with: what the first and the last in their order do."""
    if not sequences:
        return 0
    first, last = min(sequences), max(sequences)
    differing = (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return next(differing, min(len(first), len(last)))
