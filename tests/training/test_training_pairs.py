"""What becomes of preference rows before they are trained on."""

from __future__ import annotations

import pyarrow as pa
import pytest
from tiny_policy import CONTEXT, VOCABULARY, tiny_pairs

from rlsf.errors import InputError
from rlsf.training.collator import PairCollator
from rlsf.training.config import TrainingConfig
from rlsf.training.pairs import Pairs, prepare_pairs


def prepare(pairs: pa.Table, max_length: int | None = CONTEXT, **settings: object) -> Pairs:
    config = TrainingConfig(**settings)  # pyright: ignore[reportArgumentType]
    return prepare_pairs(pairs, config, vocabulary_size=VOCABULARY, max_length=max_length)


def replaced(pairs: pa.Table, name: str, values: list) -> pa.Table:
    return pairs.set_column(pairs.column_names.index(name), name, pa.array(values))


def test_token_ids_are_those_sampled() -> None:
    pairs = tiny_pairs(5)
    batch = PairCollator(pad_token_id=0)(prepare(pairs).dataset.to_list())
    for row, side in ((0, "chosen_ids"), (5, "rejected_ids")):
        for i in range(5):
            ids = batch["input_ids"][row + i][batch["attention_mask"][row + i].bool()].tolist()
            assert ids == pairs["prompt_ids"][i].as_py() + pairs[side][i].as_py()
            scored = batch["input_ids"][row + i][batch["completion_mask"][row + i].bool()].tolist()
            assert scored == pairs[side][i].as_py()


def test_margin_and_weight_reach_the_batch() -> None:
    pairs = tiny_pairs(3)
    batch = PairCollator(pad_token_id=0)(prepare(pairs, use_margin=True, use_weight=True).dataset.to_list())
    assert batch["margin"].tolist() == pytest.approx(pairs["margin"].to_pylist())
    gaps = [row["chosen_confidence"] - row["rejected_confidence"] for row in pairs.to_pylist()]
    assert batch["weight"].tolist() == pytest.approx([3 * gap / sum(gaps) for gap in gaps], rel=1e-6)


def test_weights_have_mean_one_over_the_pairs_that_are_trained_on() -> None:
    pairs = tiny_pairs(4)
    longer = [*pairs["chosen_ids"].to_pylist()[:3], [2] * CONTEXT]
    prepared = prepare(replaced(pairs, "chosen_ids", longer), use_weight=True)
    assert prepared.too_long == 1
    gaps = [row["chosen_confidence"] - row["rejected_confidence"] for row in pairs.to_pylist()[:3]]
    assert prepared.dataset["weight"][:] == pytest.approx([3 * gap / sum(gaps) for gap in gaps], rel=1e-6)


def test_margin_and_weight_stay_out_unless_asked_for() -> None:
    assert {"margin", "weight"}.isdisjoint(prepare(tiny_pairs(2)).dataset.column_names)


def test_long_pairs_are_left_out_and_counted() -> None:
    pairs = pa.Table.from_pylist(
        [
            {"prompt_ids": [2, 3], "chosen_ids": [4] * 6, "rejected_ids": [5]},
            {"prompt_ids": [2, 3], "chosen_ids": [4], "rejected_ids": [5] * 7},
            {"prompt_ids": [2, 3], "chosen_ids": [4] * 6, "rejected_ids": [5] * 6},
        ]
    )
    prepared = prepare(pairs, max_length=8)
    assert (len(prepared), prepared.too_long) == (2, 1)
    assert prepared.dataset["rejected_ids"] == [[5], [5] * 6]


def test_nothing_is_left_out_without_a_bound() -> None:
    assert prepare(tiny_pairs(4), max_length=None).too_long == 0


def test_digest_tells_token_ids_apart() -> None:
    pairs = tiny_pairs(4)
    assert prepare(pairs).digest == prepare(pairs.drop_columns(["margin"])).digest
    assert prepare(pairs).digest != prepare(pairs.slice(1)).digest
    # The same flat ids, cut elsewhere.
    one = pa.table({"prompt_ids": [[2, 3]], "chosen_ids": [[4]], "rejected_ids": [[5]]})
    two = pa.table({"prompt_ids": [[2]], "chosen_ids": [[3, 4]], "rejected_ids": [[5]]})
    assert prepare(one).digest != prepare(two).digest


@pytest.mark.parametrize(
    ("broken", "settings", "message"),
    [
        (tiny_pairs(3).slice(0, 0), {}, r"no preference pairs .* lower ranking.threshold or ranking.minimum_gap"),
        (tiny_pairs(3).rename_columns({"chosen_ids": "chosen_id"}), {}, r"no column 'chosen_ids'.*'chosen_id'"),
        (tiny_pairs(3).drop_columns(["margin"]), {"use_margin": True}, r"'margin'.*training.use_margin needs"),
        (
            tiny_pairs(3).drop_columns(["chosen_confidence"]),
            {"use_weight": True},
            r"'chosen_confidence'.*training.use_weight needs",
        ),
        (
            replaced(tiny_pairs(2), "rejected_confidence", [0.1, 1.5]),
            {"use_weight": True},
            r"pair 1 has a gap in confidence of -0\.\d+, and a weight below 0 would teach its rejected trace",
        ),
        (
            replaced(tiny_pairs(2), "chosen_confidence", [0.9, float("nan")]),
            {"use_weight": True},
            r"pair 1 has a 'chosen_confidence' of nan: rank the traces again",
        ),
        (
            replaced(tiny_pairs(2), "margin", [float("inf"), 0.1]),
            {"use_margin": True},
            r"pair 0 has a 'margin' of inf: rank the traces again",
        ),
        (tiny_pairs(2).append_column("weight", pa.array([1.0, -1.0])), {}, r"pair 1 has a weight of -1, and a weight"),
        (replaced(tiny_pairs(2), "rejected_ids", [[2], []]), {}, r"pair 1 has an empty 'rejected_ids'"),
        (replaced(tiny_pairs(2), "rejected_ids", [[2], None]), {}, r"'rejected_ids' has empty cells"),
        (replaced(tiny_pairs(2), "chosen_ids", [[2], [40]]), {}, r"token id 40 in 'chosen_ids' is not one of .* 40"),
        (replaced(tiny_pairs(2), "prompt_ids", [[2], [-1]]), {}, r"token id -1 in 'prompt_ids'"),
    ],
)
def test_unusable_preferences(broken: pa.Table, settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(broken, **settings)


def test_all_pairs_too_long() -> None:
    with pytest.raises(InputError, match=r"all 3 preference pairs .* context of 2 tokens: lower sampling.max_new"):
        prepare(tiny_pairs(3), max_length=2)


@pytest.mark.parametrize("settings", [{"label_smoothing": 0.1}, {"use_margin": True}])
def test_ipo_has_neither_smoothing_nor_margin(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="IPO has neither"):
        TrainingConfig(loss="ipo", **settings)  # pyright: ignore[reportArgumentType]
