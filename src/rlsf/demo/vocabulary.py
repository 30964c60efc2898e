"""The bundled model's tokenizer: byte-level BPE over the task text, with single digits."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

#: Special tokens; they take the first ids, in this order.
PAD, END = "<|pad|>", "<|end|>"
PAD_ID, END_ID = 0, 1
LARGEST_VOCABULARY = 1024
#: A word, one digit, or a run of signs, each with the space before it; then other white space.
_PIECES = r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s"


def train_tokenizer(texts: Iterable[str], context_length: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most ``LARGEST_VOCABULARY`` tokens.

    Every byte is in the alphabet, so any text survives encoding and decoding unchanged. Encoding adds no special
    token; ``END`` closes a completion.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=LARGEST_VOCABULARY,
        special_tokens=[PAD, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        model_max_length=context_length,
        clean_up_tokenization_spaces=False,
    )
