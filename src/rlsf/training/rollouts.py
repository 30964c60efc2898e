"""Completions for TRL's online trainers from our own sampling engine, seeded per prompt.

TRL samples with the global random number generator, so that what is drawn depends on batches, processes and resumes.
Here the random numbers of a completion depend on the run's seed, the optimiser step, the prompt and its place in the
group alone; the order of prompts, and which optimiser step learns from which completions, depend on as little
(``rollout_order``). The engine reads each prompt once for all its completions, and records the statistics of the
distributions at temperature 1 while it decodes, which rewards and monitors then need not compute again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from torch.utils.data import Sampler
from trl.trainer.utils import split_tensor_dict

from rlsf.errors import InputError, ModelError
from rlsf.sampling.config import SamplingConfig
from rlsf.sampling.engine import SamplingRequest
from rlsf.sampling.randomness import derived_seed
from rlsf.sampling.transformers_engine import TransformersEngine
from rlsf.tokenstats import TokenStatistics
from rlsf.traces import Trace
from rlsf.training.cut_models import require_whole_models
from rlsf.training.rollout_order import PassSampler, dealing, in_order
from rlsf.training.spending import Allowance, OnlineSpending

if TYPE_CHECKING:
    _OnlineTrainer = Any  # whichever it is mixed into
else:
    _OnlineTrainer = object

#: The tokens of each prompt and completion, as a column of a batch.
ROW_TOKENS = "row_tokens"


class SeededRollouts(_OnlineTrainer):
    """Mix into ``GRPOTrainer`` or ``RLOOTrainer``, to the left of it and of ``PolicyStatistics``.

    Rows of the training data hold ``prompt_id`` and ``prompt_ids``, the token ids that the policy continues. Raises
    ``InputError`` where a process would hold part of a group.
    """

    def __init__(self, *args: Any, rollouts: SamplingConfig, rollout_seed: int, **kwargs: Any) -> None:
        self.rollouts, self.rollout_seed = rollouts, rollout_seed
        self._engine: TransformersEngine | None = None
        self._rows: list[dict[str, Any]] = []
        self._traces: list[Trace] = []
        self._fresh: dict[str, Any] | None = None
        self.spending: Any = OnlineSpending()
        super().__init__(*args, **kwargs)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if len(inputs) % self.num_generations:
            raise InputError(
                f"{len(inputs)} completions a process and batch of rollouts are no multiple of"
                f" online.num_generations={self.num_generations}: use fewer processes, or change"
                " online.prompts_per_step"
            )
        # The trainer's rows are one object a prompt, repeated; what is noted in one completion's is not the others'.
        self._rows = [dict(row) for row in inputs]
        fresh = super()._generate_and_score_completions(self._rows)
        if self.model.training:
            self.spending.note_rollouts(self._traces)
            rows = zip(self._rows, self._traces, strict=True)
            fresh[ROW_TOKENS] = torch.tensor([len(row["prompt_ids"]) + len(trace.token_ids) for row, trace in rows])
        self._fresh = fresh
        return fresh

    def new_spending(self, allowance: Allowance) -> OnlineSpending:
        """Nothing spent yet; the longest prompt is the longest one of the training data."""
        return OnlineSpending(allowance, longest_prompt=max(map(len, self.train_dataset["prompt_ids"])))

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """A pass's completions; fresh rollouts are dealt to the optimiser steps anew, whatever TRL's shuffle did."""
        inputs = self._dealt_inputs(super()._prepare_inputs(generation_batch))
        if self.model.training:
            self.spending.note_pass(int(inputs[ROW_TOKENS].sum()))
        return inputs

    def _dealt_inputs(self, inputs: Any) -> Any:
        if not self.model.training or self._fresh is None:
            return inputs
        passes, accumulation = self.args.steps_per_generation, self.args.gradient_accumulation_steps
        order = dealing(
            [row["prompt_id"] for row in self._rows[:: self.num_generations]],
            self.num_generations,
            max(1, passes // accumulation),
            self.accelerator.process_index * len(self._rows),
            derived_seed(self.rollout_seed, "deal", self.state.global_step),
        )
        self._buffered_inputs, self._fresh = split_tensor_dict(in_order(self._fresh, order), passes), None
        return self._buffered_inputs[self._step % passes]

    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
        sampler = super()._get_train_sampler(dataset)
        return PassSampler(
            sampler.data_source,
            mini_repeat_count=sampler.mini_repeat_count,
            batch_size=sampler.batch_size,
            repeat_count=sampler.repeat_count,
            shuffle=sampler.shuffle,
            seed=sampler.seed,
            current_pass=lambda: self._current_pass(sampler),
        )

    def _current_pass(self, sampler: Any) -> int:
        """Passes over the prompts that are done, from the number of optimiser steps."""
        forward_passes = len(sampler) // self.args.generation_batch_size
        return self.state.global_step // max(1, math.ceil(forward_passes / self.args.gradient_accumulation_steps))

    def _tokenize_prompts(self, prompts: Any) -> Any:
        """The given token ids; nothing is tokenised."""
        return [list(row["prompt_ids"]) for row in self._rows], None, {}

    def _generate_single_turn(self, prompt_ids: list[list[int]], *others: Any) -> Any:
        self._traces = self._roll_out(prompt_ids)
        completions = [trace.token_ids.tolist() for trace in self._traces]
        # GRPO wants the sampler's log-probabilities beside them, which only its correction for vLLM reads.
        return (completions, None) if hasattr(self, "rollout_func") else completions

    def _roll_out(self, prompt_ids: list[list[int]]) -> list[Trace]:
        """The completion of each row of the local batch."""
        return self._sample(range(len(prompt_ids)), prompt_ids, "rollout")

    def _sample(self, places: Sequence[int], prompt_ids: Sequence[Sequence[int]], label: str) -> list[Trace]:
        """The completions of the rows at ``places``, which are whole groups."""
        seed = derived_seed(self.rollout_seed, label, self.state.global_step)
        firsts = places[:: self.num_generations]
        requests = [SamplingRequest(self._rows[place]["prompt_id"], tuple(prompt_ids[place]), seed) for place in firsts]
        try:
            with self.accelerator.autocast():
                groups = list(self._policy_engine.sample(requests, self.rollouts))
        except ModelError as error:
            if not self.state.global_step:
                raise
            raise ModelError(
                f"after {self.state.global_step} training steps completions can no longer be sampled: lower"
                f" online.learning_rate (now {self.args.learning_rate:g}); {error}"
            ) from error
        return [trace for group in groups for trace in group]

    @property
    def _policy_engine(self) -> TransformersEngine:
        if self._engine is None:
            require_whole_models(self, "seeded rollouts")
            policy: Any = self.accelerator.unwrap_model(self.model)
            policy = policy.get_base_model() if isinstance(policy, PeftModel) else policy
            self._engine = TransformersEngine(policy, self.processing_class)
        return self._engine

    def _measure(self, completion_ids: list[list[int]], temperature: Any) -> list[TokenStatistics]:
        """What was recorded while decoding, where it is of the temperature asked for; else as usual."""
        if temperature == "raw" or self.temperature == 1.0:
            return [trace.statistics for trace in self._traces]
        return super()._measure(completion_ids, temperature)
