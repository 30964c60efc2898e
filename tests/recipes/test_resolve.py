"""Layers of configuration and the one line a user gets for a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rlsf.errors import InputError
from rlsf.recipes import RECIPES, Recipe, differences, parse_overrides, recipe_card, resolve, to_yaml
from rlsf.recipes.resolve import flatten, merge


@pytest.mark.parametrize("name", RECIPES)
def test_every_shipped_recipe_resolves_and_round_trips(name: str) -> None:
    recipe = resolve(name)
    assert recipe.recipe == name
    assert Recipe.model_validate(yaml.safe_load(to_yaml(recipe))) == recipe


def test_rlsf_keeps_the_papers_settings() -> None:
    recipe = resolve("rlsf")
    assert (recipe.sampling.strategy, recipe.sampling.branches, recipe.sampling.continuation) == (
        "cot_decoding",
        10,
        "greedy",
    )
    assert (recipe.signal, recipe.ranking.rule, recipe.ranking.threshold) == ("answer_disparity", "all_pairs", 0.9)
    assert (recipe.training.beta, recipe.ranking.margin) == (0.2, "exponential")


#: What the papers say, as far as they say it: recipe -> dotted key of ``online`` -> value.
PUBLISHED = {
    "intuitor": {
        "rewards.self_certainty.weight": 1.0,
        "prompts_per_step": 128,
        "num_generations": 7,
        "max_completion_length": 3072,
        "learning_rate": 3e-6,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.1,
        "beta": 0.005,
        "scale_rewards": "group",
    },
    **{
        name: {f"rewards.{reward}.weight": 1.0, "prompts_per_step": 128, "num_generations": 8, "max_steps": 20}
        for name, reward in (
            ("rlif-self-certainty", "self_certainty"),
            ("rlif-token-entropy", "token_entropy"),
            ("rlif-trajectory-entropy", "trajectory_entropy"),
        )
    },
    "rlsf-rm": {
        "algorithm": "rloo",  # for PPO
        "rewards.reward_model.weight": 1.0,
        "temperature": 0.7,
        "num_iterations": 3,
        "max_completion_length": 256,
        "learning_rate": 3e-6,
        "lr_scheduler_type": "linear",
        "epsilon": 0.2,
        "beta": 0.05,
        "epochs": 3.0,
        "lora.rank": 8,
        "lora.dropout": 0.1,
    },
    "rlcr": {
        "rewards.brier_calibration.form": "published",
        "prompts_per_step": 72,
        "num_generations": 32,
        "temperature": 0.7,
        "loss_type": "bnpo",
        "scale_rewards": "none",
        "beta": 0.0,
        "learning_rate": 5e-6,
        "lr_scheduler_type": "linear",
        "warmup_ratio": 0.2,
        "epochs": 0.5,
        "mask_truncated_completions": True,
    },
    "nft": {
        "algorithm": "nft",
        "rewards.correctness.weight": 1.0,
        "prompts_per_step": 32,
        "num_generations": 16,
        "steps_per_rollout": 16,
        "nft.weight": "one_minus_p",
        "nft.eps": 1.0,
        "learning_rate": 1e-6,
        "weight_decay": 0.1,
        "beta": 0.0,
    },
    "rise-verify": {
        "rewards.self_verification.verdict": "gold",
        "rewards.self_verification.share": pytest.approx(128 / 1152),
        "prompts_per_step": 128,
        "steps_per_rollout": 9,
        "num_generations": 8,
        "learning_rate": 5e-7,
        "beta": 0.01,
        "epochs": 12.0,
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_online_recipes_keep_the_papers_settings(name: str) -> None:
    online = resolve(name).online
    assert online is not None
    settings = dict(flatten(online.model_dump()))
    for key, value in PUBLISHED[name].items():
        assert settings[key] == value, key
    # What is not named in a recipe's file would follow our defaults when they change.
    written = dict(flatten(yaml.safe_load(recipe_card(name).yaml)["online"]))
    for key in ("num_generations", "temperature", "beta", "learning_rate", "max_completion_length", "algorithm"):
        assert key in written, key


#: What its paper says, and its repository, as far as they say it.
PUBLISHED_INTROSPECTION = {
    "samples": (1, 16),
    "temperature": 1.0,
    "turns": 5,
    "vote": "majority",
    "training.learning_rate": 1e-5,
    "training.lr_scheduler_type": "cosine",
    "training.warmup_ratio": 0.04,
    "training.weight_decay": 0.0,
    "training.batch_size": 16,
}
#: What the recipe's file says of the published run with gold answers.
AS_PUBLISHED = {"reward": "gold", "training.tau": 0.4, "training.normalise_weights": False}


def test_introspection_keeps_the_papers_settings() -> None:
    shipped = resolve("rise-introspection")
    assert shipped.introspection is not None
    assert not shipped.needs_labels
    settings = dict(flatten(shipped.introspection.model_dump()))
    for key, value in PUBLISHED_INTROSPECTION.items():
        assert settings[key] == value, key
    assert (settings["reward"], settings["training.tau"]) == ("confidence", 0.2)
    said = [f"--introspection.{key} {str(value).lower()}" for key, value in AS_PUBLISHED.items()]
    for option in said:
        assert option.replace("_", "-") in recipe_card("rise-introspection").yaml, option
    published = resolve("rise-introspection", overrides=parse_overrides([part for one in said for part in one.split()]))
    assert published.needs_labels
    assert published.introspection is not None
    assert dict(flatten(published.introspection.model_dump())) == {**settings, **AS_PUBLISHED}


def test_one_way_to_learn() -> None:
    with pytest.raises(InputError, match="introspection and online are two ways to learn"):
        resolve("rise-introspection", overrides=parse_overrides(["online.algorithm=grpo"]))
    with pytest.raises(InputError, match=r"evaluation\.modes: turns needs introspection"):
        resolve("rlsf", overrides=parse_overrides(["evaluation.modes=[greedy, turns]"]))


def test_a_margin_that_no_pair_has() -> None:
    options = ["training.use_margin=true", "ranking.margin=none"]
    with pytest.raises(InputError, match=r"training\.use_margin has no effect with ranking\.margin=none"):
        resolve("rlsf", overrides=parse_overrides(options))
    assert resolve("rlsf", overrides=parse_overrides([options[0], "ranking.margin=gap"])).training.use_margin


def test_core_po_keeps_the_papers_settings() -> None:
    recipe = resolve("core-po")
    assert recipe.judge is not None
    sampling = recipe.sampling
    assert (sampling.strategy, sampling.branches, sampling.temperature, sampling.top_p) == ("sampling", 5, 1.0, 0.9)
    judge = recipe.judge
    assert (judge.confidence, judge.reasoning, judge.context) == ("composite", "monolithic", 4)
    training = recipe.training
    assert (training.loss, training.beta, training.nll_weight, training.reference) == ("sigmoid", 0.1, 0.0, "start")
    assert training.lora is not None
    assert (training.lora.rank, training.lora.alpha, training.lora.rank_stabilised) == (128, 256, False)
    # What is not named in a recipe's file would follow our defaults when they change.
    written = dict(flatten(yaml.safe_load(recipe_card("core-po").yaml)))
    for key in (
        "judge.probability",
        "ranking.rule",
        "training.learning_rate",
        "training.batch_size",
        "training.rounds",
    ):
        assert key in written, key


def test_the_reward_model_keeps_the_papers_settings() -> None:
    recipe, direct = resolve("rlsf-rm"), resolve("rlsf")
    config, online = recipe.reward_model, recipe.online
    assert config is not None
    assert online is not None
    assert (config.learning_rate, config.epochs, config.batch_size) == (5e-5, 3.0, 4)
    assert (config.use_margin, config.centre_rewards) == (True, 0.0)
    assert config.lora == online.lora
    assert online.completions_per_step == 32
    # Both routes learn from the same pairs.
    assert (recipe.sampling, recipe.signal, recipe.ranking) == (direct.sampling, direct.signal, direct.ranking)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_say_whether_they_need_labels(name: str) -> None:
    assert resolve(name).needs_labels == recipe_card(name).needs_labels


def test_later_layers_win(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("recipe: rlsf\nsampling:\n  branches: 4\n  max_new_tokens: 99\n")
    recipe = resolve(
        config=file, overrides=parse_overrides(["--sampling.branches", "3", "training.learning_rate=1e-4"])
    )
    assert (recipe.sampling.branches, recipe.sampling.max_new_tokens) == (3, 99)
    assert recipe.training.learning_rate == pytest.approx(1e-4)
    assert recipe.training.beta == resolve("rlsf").training.beta


def test_hyphens_and_lists_are_understood() -> None:
    layer = parse_overrides(["--sampling.max-new-tokens=7", "--sampling.stop", '["\\n", "Q:"]'])
    recipe = resolve("rlsf", overrides=layer)
    assert recipe.sampling.max_new_tokens == 7
    assert recipe.sampling.stop == ("\n", "Q:")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("template", "Question: {question}\nAnswer:"),
        ("few-shot", "Q: What is 2 + 2?\nA: 4."),
        ("system", "Note: be brief"),
        ("system", "no"),
        ("system", "[calm"),
    ],
)
def test_text_that_looks_like_yaml_stays_text(key: str, text: str) -> None:
    render = resolve("rlsf", overrides=parse_overrides([f"--render.{key}", text])).render
    assert getattr(render, key.replace("-", "_")) == text


def test_quoted_text_may_hold_escapes_and_null_is_nothing() -> None:
    assert resolve("rlsf", overrides=parse_overrides(["--render.system", r'"a\nb"'])).render.system == "a\nb"
    assert resolve("rlsf", overrides=parse_overrides(["--render.system", "null"])).render.system is None
    assert resolve("rlsf", overrides=parse_overrides(["--model.path", "123"])).model.path == "123"


def test_a_table_left_empty_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("sampling:\nprompts:\n  columns:\nevaluation_data:\n")
    assert resolve(config=file) == resolve()
    file.write_text("evaluation_data: {path: test.jsonl}\n")
    assert resolve(config=file, overrides=parse_overrides(["evaluation_data=null"])).evaluation_data is None


@pytest.mark.parametrize(
    ("tokens", "needle"),
    [
        (["--sampling.brances", "5"], "did you mean 'branches'"),
        (["--smapling.branches", "5"], "did you mean 'sampling'"),
        (["--sampling.branches", "many"], "sampling.branches='many'"),
        (["--sampling.branches", "0"], "greater than or equal to 1"),
        (["--answer.format", "regex"], "answer.pattern goes with answer.format=regex"),
        (["--sampling.branches"], "needs a value"),
        (["--branches", "5"], "unknown key 'branches' (did you mean 'sampling.branches'?)"),
        (["--path", "m"], "unknown key 'path' (did you mean 'model.path' or 'prompts.path'?)"),
        (["--sampling", "5"], "sampling=5: set the keys in it, sampling.strategy for instance"),
        (["--prompts.columns", "q"], "prompts.columns='q': set the keys in it, prompts.columns.question for instance"),
        (["--training.lora", "8"], "training.lora=8: set the keys in it, training.lora.rank for instance"),
        (["--evaluation.modes", "greedy"], "evaluation.modes='greedy': expected a list, [one, two] for instance"),
        (["--evaluation.modes", "[gredy]"], "evaluation.modes='gredy': input should be 'greedy', "),
        (["--training.trainer", "fp16"], "training.trainer='fp16': expected keys and values"),
        (["--sampling.workers", "all"], "sampling.workers='all': input should be a valid integer"),
        (["--render.template", "x"], "render.template='x' has no {question}"),
        (["branches"], "options are written"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(tokens: list[str], needle: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve("rlsf", overrides=parse_overrides(tokens))
    assert needle in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        (
            "recipe: rlsf\nsampling:\n  temprature: 1\n",
            "mine.yaml:3: unknown key 'sampling.temprature' (did you mean 'temperature'",
        ),
        ("recipe: rlsf\nsampling:\n  branches: -1\n", "mine.yaml:3: sampling.branches=-1"),
        ("recipe: rlfs\n", "unknown recipe 'rlfs' (did you mean 'rlsf'"),
        ("seed: 1\nsampling: 5\n", "mine.yaml:2: sampling=5: set the keys in it"),
        ("1: 2\n", "mine.yaml:1: unknown key '1'"),
        ("recipe: [\n", "mine.yaml:2: not valid YAML"),
        ("- a\n- b\n", "mine.yaml:1: expected keys and values"),
        ("x: !!python/object/apply:os.system ['true']\n", "mine.yaml:1: not valid YAML"),
    ],
)
def test_a_mistake_in_a_file_names_its_line(tmp_path: Path, text: str, needle: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        resolve(config=file)
    assert needle in str(caught.value)


def test_a_missing_or_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes(b"recipe: \xff\n")
    with pytest.raises(InputError, match=r"no such recipe file: .*recipes\.yaml \(did you mean 'recipe\.yaml'\?\)"):
        resolve(config=tmp_path / "recipes.yaml")
    with pytest.raises(InputError, match="not UTF-8 at byte 8"):
        resolve(config=tmp_path / "recipe.yaml")
    with pytest.raises(InputError, match=r"is a folder: give a recipe file"):
        resolve(config=tmp_path)


def test_unknown_recipe_names_the_near_ones() -> None:
    with pytest.raises(InputError, match=r"unknown recipe 'rlsf-trce' \(did you mean 'rlsf-trace'"):
        resolve("rlsf-trce")


def test_differences_are_named_by_dotted_key() -> None:
    old, new = resolve("rlsf"), resolve("rlsf", overrides=parse_overrides(["ranking.threshold=0.8", "seed=1"]))
    assert differences(old.model_dump(), new.model_dump()) == ["ranking.threshold: 0.9 -> 0.8", "seed: 0 -> 1"]


tables = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8
).filter(lambda value: isinstance(value, dict))


@given(tables, tables, tables)
def test_merging_is_associative_and_idempotent(a: dict, b: dict, c: dict) -> None:
    assert merge(a, a) == a
    assert merge(merge(a, b), b) == merge(a, b)
    # Replacing a table by a number and then by a table again forgets the first table, in either grouping.
    if all(
        isinstance(x, dict) == isinstance(y, dict)
        for key in a
        for x in [a[key]]
        for y in [b.get(key, x), c.get(key, x)]
    ):
        assert set(merge(merge(a, b), c)) == set(merge(a, merge(b, c)))
