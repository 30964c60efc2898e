"""Two ways of CoT-decoding with statistics through ``generate`` alone, as peers for the benchmark.

Written for this benchmark after descriptions of the published procedure; both return, for each prompt, K rows of
(token ids, disparity at each token).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

Row = tuple[list[int], Tensor]


@torch.inference_mode()
def one_prompt_at_a_time(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], branches: int, new_tokens: int, eos_id: int
) -> list[list[Row]]:
    """Beam search of one step for the first tokens, then K rows from the start, all logits kept.

    The prompt is prefilled K times for its first token and K times again for the continuations.
    """
    groups = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        started = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=1,
            num_beams=branches,
            num_return_sequences=branches,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            pad_token_id=eos_id,
            eos_token_id=eos_id,
        )
        first_logits = started.logits[0][:1].expand(branches, -1)
        mask = torch.ones_like(started.sequences)
        groups.append(_continue(model, started.sequences, mask, first_logits, new_tokens, eos_id))
    return groups


@torch.inference_mode()
def batched_generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    branches: int,
    new_tokens: int,
    eos_id: int,
    batch_prompts: int,
) -> list[list[Row]]:
    """``batch_prompts`` left-padded prompts at a time: one step for the first tokens, then all branches together."""
    groups = []
    for start in range(0, len(prompts), batch_prompts):
        batch = prompts[start : start + batch_prompts]
        longest = max(len(prompt) for prompt in batch)
        ids = torch.tensor([[eos_id] * (longest - len(prompt)) + list(prompt) for prompt in batch])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in batch])
        started = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=1,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            pad_token_id=eos_id,
            eos_token_id=eos_id,
        )
        first_logits = started.logits[0]
        first = first_logits.topk(branches).indices
        sequences = torch.cat([ids.repeat_interleave(branches, 0), first.view(-1, 1)], dim=1)
        masks = torch.cat([mask.repeat_interleave(branches, 0), torch.ones(len(sequences), 1, dtype=torch.long)], dim=1)
        first_logits = first_logits.repeat_interleave(branches, 0)
        rows = _continue(model, sequences, masks, first_logits, new_tokens, eos_id)
        groups += [rows[row : row + branches] for row in range(0, len(rows), branches)]
    return groups


def _continue(
    model: PreTrainedModel, sequences: Tensor, mask: Tensor, first_logits: Tensor, new_tokens: int, eos_id: int
) -> list[Row]:
    done = model.generate(
        sequences,
        attention_mask=mask,
        max_new_tokens=new_tokens - 1,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        pad_token_id=eos_id,
        eos_token_id=eos_id,
    )
    logits = torch.cat([first_logits.unsqueeze(1), torch.stack(done.logits, dim=1)], dim=1)
    tokens = done.sequences[:, sequences.shape[1] - 1 :]
    probabilities = torch.softmax(logits.float(), dim=-1)
    top = probabilities.topk(2, dim=-1).values
    chosen = probabilities.gather(2, tokens.unsqueeze(2)).squeeze(2)
    disparity = torch.where(chosen >= top[..., 0], top[..., 0] - top[..., 1], 0.0)
    rows = []
    for ids, differences in zip(tokens.tolist(), disparity, strict=True):
        length = ids.index(eos_id) + 1 if eos_id in ids else len(ids)
        rows.append((ids[:length], differences[:length]))
    return rows
