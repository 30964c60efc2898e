"""Train a policy on preference pairs: resumable, with the step to keep chosen without labels."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback

from rlsf.errors import InputError
from rlsf.models.facts import context_length
from rlsf.training.collator import PairCollator
from rlsf.training.common_options import lora_config, restore_lora_dropout, vocabulary_size
from rlsf.training.config import TrainingConfig
from rlsf.training.cut_models import fsdp_asked_for, is_cut, require_trainable_in_pieces
from rlsf.training.finish import TrainingResult, keep_policy, starting_point, train_to_the_best
from rlsf.training.observer import Progress, Record, TrainingObserver, ignore
from rlsf.training.options import objective, trainer_arguments
from rlsf.training.pairs import Pairs, prepare_pairs
from rlsf.training.policy import low_precision, special_tokens_kept
from rlsf.training.preference_trainer import PreferenceTrainer
from rlsf.training.selection import Probe, Selection
from rlsf.training.spending import UNCAPPED, Allowance
from rlsf.training.step_plan import plan_spending


def train_preferences(
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    preferences: pa.Table,
    config: TrainingConfig,
    folder: Path,
    policy_folder: Path,
    seed: int,
    probe: Probe | None = None,
    record: Record = ignore,
    resume: bool = False,
    progress: Progress = ignore,
    allowance: Allowance = UNCAPPED,
) -> TrainingResult:
    """Direct preference optimisation on ranked pairs; saves the policy of the chosen step to ``policy_folder``.

    ``model`` is trained in place; pass a fresh one. As it is at the start it is the reference policy too, unless
    ``rlsf.training.keep_reference`` has left another's log-probabilities in ``folder``, where checkpoints go as well.
    With ``resume``, training goes on from the last whole checkpoint there, or starts where there is none; on CPU the
    weights are then those of a run that was never interrupted, bit for bit. ``record`` receives one event an optimiser
    step (``training``) and one a probe (``probe``). ``allowance`` caps what may be spent: fewer steps are planned then.

    Raises ``InputError`` for unusable pairs or options, ``ModelError`` when the loss or gradient is not a number, and
    ``ResourceError`` when disk or memory runs out; finished checkpoints are kept in every case.
    """
    start = starting_point(folder, resume=resume)
    arguments = trainer_arguments(config, model, folder, seed)
    pairs = usable_pairs(preferences, config, arguments, model)
    selection = Selection.load(config.selection, start) if probe and config.selection.enabled else None
    dtype = low_precision(model)
    trainer = build_trainer(model, tokenizer, pairs, config, arguments, selection)
    if is_cut(trainer):
        require_trainable_in_pieces(
            "training",
            adapters=isinstance(trainer.model, PeftModel),
            second_model=not arguments.precompute_ref_log_probs,
        )
        trainer.ref_model = None  # its log-probabilities are computed
    trainer.spending = plan_spending(trainer, start, allowance)
    trainer.add_callback(TrainingObserver(trainer, selection, probe, record, progress))
    result = train_to_the_best(trainer, start)
    keep_policy(trainer, tokenizer, policy_folder, dtype)
    return replace(result, pairs=len(pairs), too_long=pairs.too_long)


def usable_pairs(preferences: pa.Table, config: TrainingConfig, arguments: Any, model: PreTrainedModel) -> Pairs:
    """The pairs that fit ``model``; a length limit among the trainer's arguments is used up."""
    pairs = prepare_pairs(
        preferences,
        config,
        vocabulary_size=vocabulary_size(model),
        max_length=arguments.max_length or context_length(model),
        folder=Path(arguments.output_dir),
    )
    arguments.max_length = None
    return pairs


def build_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Pairs,
    config: TrainingConfig,
    arguments: Any,
    selection: Selection | None = None,
) -> PreferenceTrainer:
    """The trainer for one model and data set; full weights of low precision are held in float32 while they train."""
    adapted = isinstance(model, PeftModel)
    if adapted and not arguments.precompute_ref_log_probs:
        raise InputError("training an adapter further needs training.precompute_reference=true")
    lora = lora_config(config.lora) if config.lora and not adapted else None
    if adapted:
        model.set_adapter("default")
    elif lora is None and low_precision(model) is not None:
        model = model.float()
    # Where FSDP cuts models, TRL wants a second one to compute the reference with.
    computed = arguments.precompute_ref_log_probs and not fsdp_asked_for()
    reference = None if computed or adapted or lora else copy.deepcopy(model)
    with special_tokens_kept(model, tokenizer):
        try:
            trainer = PreferenceTrainer(
                model,
                reference,
                arguments,
                PairCollator(pad_token_id=_pad_id(tokenizer), joint=config.likelihood == "joint"),
                pairs.dataset,
                processing_class=tokenizer,
                peft_config=lora,
                objective=objective(config, arguments),
                folder=Path(arguments.output_dir),
                pairs_digest=pairs.digest
                if config.likelihood == "conditional"
                else f"{config.likelihood}:{pairs.digest}",
                selection=selection,
            )
        except (ValueError, NotImplementedError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"training: {error}") from error
    # With a tokenizer at hand the transformers trainer would align the model's special tokens with it.
    trainer.processing_class = None
    trainer.remove_callback(PrinterCallback)
    if adapted:
        # The reference is computed; a second adapter would be saved and loaded in place of the one that trains.
        model.delete_adapter("ref")
    if lora is not None and config.lora is not None:
        restore_lora_dropout(trainer.model, config.lora.dropout)
    return trainer


def _pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Any id serves: padded positions are masked out of attention and loss."""
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return next((token for token in known if isinstance(token, int)), 0)
