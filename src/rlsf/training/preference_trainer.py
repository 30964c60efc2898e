"""TRL's DPO trainer on sampled token ids, with the terms of the objective that TRL 1.16 has no option for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from accelerate.utils import gather_object
from datasets import Dataset, concatenate_datasets
from datasets.table import InMemoryTable
from torch import Tensor
from trl.trainer.dpo_trainer import DPOTrainer

from rlsf.errors import InputError
from rlsf.files import atomic_path
from rlsf.linear import fast_linears
from rlsf.training.checkpoints import out_of_room
from rlsf.training.collator import PAIR_NUMBERS
from rlsf.training.distinct_traces import PromptAndTrace, Traces, distinct_traces
from rlsf.training.examples_read import examples_read
from rlsf.training.mean_of_step import MeanOfStep
from rlsf.training.objective import Objective, PairLogprobs
from rlsf.training.pairs import REJECTED_PROMPT
from rlsf.training.prefix_sharing import PrefixSharing
from rlsf.training.whole_checkpoints import WholeCheckpoints

REFERENCE = "reference.parquet"
_DIGEST = b"rlsf.pairs"


class PreferenceTrainer(WholeCheckpoints, MeanOfStep, PrefixSharing, DPOTrainer):
    """``DPOTrainer`` that trains on given token ids, minimises an ``Objective``, and saves whole checkpoints.

    ``objective=None`` keeps TRL's own loss, as its configuration says. ``pairs_digest`` identifies the data in the
    stored reference log-probabilities. Overrides private hooks of TRL, hence the tight version bound on it.
    """

    def __init__(
        self,
        *args: Any,
        objective: Objective | None,
        pairs_digest: str,
        **kwargs: Any,
    ) -> None:
        self.objective = objective
        self.pairs_digest = pairs_digest
        super().__init__(*args, **kwargs)

    # Data

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """The token ids are the ones sampled: nothing is tokenised, and no end-of-sequence id appended."""
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            super()._set_signature_columns_if_needed()
            columns: Any = self._signature_columns
            self._signature_columns = [*columns, REJECTED_PROMPT, *PAIR_NUMBERS]

    # Reference

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """Reference log-probabilities of the pairs that training reads, computed once per distinct trace and kept.

        They are computed beforehand, and not step by step beside the policy, since the policy is the reference only
        until the first step: later that takes a second copy of the model in memory, and one that is not cut.
        TRL's own way writes them into a cache of data sets, which processes need not share. Models are whole here
        still, also where training will cut them.
        """
        if self.ld_alpha is not None:
            return super()._precompute_ref_logps(dataset, name, batch_size)
        path, read = self.folder / REFERENCE, examples_read(self)
        reference = self._stored_reference(path, read)
        if reference is None:
            reference = self._reference_table(dataset, read, batch_size)
            if self.is_world_process_zero():
                with out_of_room(self.folder), atomic_path(path) as partial:
                    pq.write_table(reference.replace_schema_metadata({_DIGEST: self.pairs_digest}), partial)
        self.accelerator.wait_for_everyone()
        # Nulls would stop the collator, since accelerate collates a batch more than is used.
        columns = {name: pc.fill_null(reference[name], np.nan) for name in reference.column_names}
        return concatenate_datasets([dataset, Dataset(InMemoryTable(pa.table(columns)))], axis=1)

    def _stored_reference(self, path: Path, read: np.ndarray) -> pa.Table | None:
        if not path.exists():
            return None
        table = pq.read_table(path)
        if (table.schema.metadata or {}).get(_DIGEST) != self.pairs_digest.encode():
            raise InputError(
                f"{path} belongs to other preference pairs: train into a new --output, or delete {self.folder}"
            )
        if table[0].take(read).null_count:
            raise InputError(
                f"{path} lacks pairs that training would read now, in more or other steps: leave the number of steps,"
                f" the batches and the seed as they were, train into a new --output, or delete {self.folder}"
            )
        return table

    def _reference_table(self, dataset: Dataset, read: np.ndarray, batch_size: int) -> pa.Table:
        """A row for each pair, null where it is not among those ``read``."""
        sides, distinct = distinct_traces(dataset, read)
        logprobs = self._reference_logprobs(distinct, batch_size)
        values, unread = np.zeros((2, len(dataset)), np.float32), np.ones(len(dataset), bool)
        values[:, read], unread[read] = logprobs[sides], False
        columns = (pa.array(side, mask=unread) for side in values)
        return pa.table(dict(zip(("ref_chosen_logps", "ref_rejected_logps"), columns, strict=True)))

    def _reference_logprobs(self, traces: Traces, batch_size: int) -> np.ndarray:
        """Summed log-probability (nats) of each trace given its prompt under the reference policy.

        They are read in twos, as pairs are, which mostly have a prompt in common. The processes divide the batches
        among them. All do as many, which pieces of one model need: who has one too few does the last again.
        """
        model: Any = self.ref_model or self.model
        model.eval()
        twos = np.arange(len(traces) + len(traces) % 2).clip(max=len(traces) - 1).reshape(-1, 2)
        twos = twos[np.argsort(traces.lengths[twos].sum(1), kind="stable")]
        batches = [twos[start : start + batch_size] for start in range(0, len(twos), batch_size)]
        processes, own = self.accelerator.num_processes, self.accelerator.process_index
        values = np.empty(len(traces), np.float32)
        for turn in range(0, len(batches), processes):
            rows = [
                _pair(traces[first], traces[second]) for first, second in batches[min(turn + own, len(batches) - 1)]
            ]
            with fast_linears(model):
                halves = self.compute_ref_log_probs(model, self._prepare_inputs(self.data_collator(rows)))
            found = gather_object([torch.stack(halves, 1).float().tolist()])
            for batch, of_batch in zip(batches[turn : turn + processes], found, strict=False):
                values[batch] = of_batch
        return values

    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Of the chosen and of the rejected traces, (pairs,) each; what the sides have in common is read once."""
        return super().compute_ref_log_probs(self._reader(model), inputs)

    # Loss

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The part of the step's loss that this pass holds."""
        share = self._share(inputs, num_items_in_batch)
        found = super().compute_loss(model, inputs, return_outputs)
        return (found[0] * share, found[1]) if return_outputs else found * share

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        if self.objective is None:
            return self._trl_loss(model, inputs, return_outputs)
        inputs = dict(inputs)
        numbers = {name: inputs.pop(name, None) for name in PAIR_NUMBERS}
        reference = (inputs.pop("ref_chosen_logps", None), inputs.pop("ref_rejected_logps", None))
        if reference[0] is None:
            reference = self.compute_ref_log_probs(self.ref_model or model, inputs)
        mask = inputs.pop("completion_mask")
        if self.aux_loss_enabled:
            inputs["output_router_logits"] = True
        labels = inputs["input_ids"].masked_fill(mask == 0, -100)
        outputs = self._reader(model)(**inputs, labels=labels, fused_lm_head=True, use_cache=False)
        scored = mask[:, 1:]
        chosen, rejected = outputs.log_probs[:, -scored.size(1) :].sum(dim=1).chunk(2)
        lengths = scored.sum(dim=1).chunk(2)
        pairs = PairLogprobs(chosen, rejected, *reference, *lengths, **numbers)
        preference, nll = self.objective.preference(pairs), pairs.chosen_nll
        loss = (preference + self.objective.nll_weight * nll).mean()
        if self.aux_loss_enabled:
            loss = loss + self.router_aux_loss_coef * outputs.aux_loss
        self._require_finite(loss, "loss")
        self._note(pairs, preference, nll, outputs.entropy[:, -scored.size(1) :], scored)
        return (loss, outputs) if return_outputs else loss

    def _trl_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        if "weight" in inputs:
            raise InputError(
                "training.trainer chooses an objective of TRL's, which weighs all pairs the same: remove that option,"
                " or set conditioning.rejected_weight=1"
            )
        try:
            loss = super()._compute_loss(model, inputs, return_outputs)
        except ValueError as error:  # TRL looks at the name of a divergence no earlier
            raise InputError(f"training.trainer: {error}") from error
        self._require_finite(loss[0] if return_outputs else loss, "loss")
        return loss

    def _note(self, pairs: PairLogprobs, preference: Tensor, nll: Tensor, entropy: Tensor, scored: Tensor) -> None:
        """Metrics under TRL's names, plus the parts of the loss and ``logps/chosen_drift``.

        The drift is the mean log-ratio of the chosen traces (nats): below zero, what is preferred has become less
        likely than it was under the reference policy (likelihood displacement).
        """
        rewards = self.beta * pairs.chosen_log_ratio, self.beta * pairs.rejected_log_ratio
        gathered = {
            "preference_loss": preference,
            "nll": nll,
            "logps/chosen": pairs.chosen,
            "logps/rejected": pairs.rejected,
            "logps/chosen_drift": pairs.chosen_log_ratio,
            "rewards/chosen": rewards[0],
            "rewards/rejected": rewards[1],
            "rewards/margins": rewards[0] - rewards[1],
            "rewards/accuracies": (rewards[0] > rewards[1]).float(),
            "entropy": entropy[scored.bool()],
        }
        policy: Any = self.model
        metrics = self._metrics["train" if policy.training else "eval"]
        for name, values in gathered.items():
            mean: Any = self.accelerator.gather_for_metrics(values.detach().mean())
            metrics[name].append(mean.mean().item())


def _pair(first: PromptAndTrace, second: PromptAndTrace) -> dict[str, list[int]]:
    """Two traces as the sides of a preference pair."""
    return {"prompt_ids": first[0], "chosen_ids": first[1], REJECTED_PROMPT: second[0], "rejected_ids": second[1]}
