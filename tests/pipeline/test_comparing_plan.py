"""What a comparison would do: which recipes and seeds, which settings reach whom, and what is sampled once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsf.errors import InputError
from rlsf.pipeline.comparing_folder import ComparisonFolder
from rlsf.pipeline.comparing_jobs import jobs_of
from rlsf.pipeline.comparing_plan import (
    BEFORE,
    MEASURES,
    Plan,
    chosen_recipes,
    chosen_seeds,
    fitting_overrides,
    make_plan,
    mode_of,
    what_is_compared,
)
from rlsf.pipeline.comparing_sharing import learning_key, question_key
from rlsf.recipes import RECIPES, Recipe, resolve
from rlsf.recipes.resolve import Layer, flatten, merge, parse_overrides

DATA: Layer = {
    "model": {"path": "model"},
    "prompts": {"path": "learn.jsonl"},
    "evaluation_data": {"path": "test.jsonl"},
}


def plan(*names: str, seeds: tuple[int, ...] = (0,), **overrides: Any) -> Plan:
    return make_plan(names, seeds, lambda _: DATA, overrides)


def test_all_recipes_are_those_with_a_policy() -> None:
    assert set(RECIPES) - set(chosen_recipes("all")) == {"rc-rm"}
    assert chosen_recipes(" nft, rlsf ") == ["nft", "rlsf"]


@given(st.lists(st.integers(0, 99), min_size=2, unique=True))
def test_seeds_are_a_number_of_them_or_a_list(seeds: list[int]) -> None:
    assert chosen_seeds(",".join(map(str, seeds))) == seeds
    assert chosen_seeds(f"{seeds[0]},") == seeds[:1]
    assert chosen_seeds(str(seeds[0] + 1)) == list(range(seeds[0] + 1))


@pytest.mark.parametrize("text", ["", "0", "-1", "one", "1,two", "1,1", "1.5"])
def test_what_says_no_seeds_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--seeds"):
        chosen_seeds(text)


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_section_that_is_null_stays_null(name: str) -> None:
    recipe = resolve(name)
    said = parse_overrides(["online.max_steps=3", "training.lora.rank=4", "acceptance.rounds=2", "sampling.branches=2"])
    fitting = dict(flatten(fitting_overrides(said, recipe)))
    assert ("online.max_steps" in fitting) == (recipe.online is not None)
    assert ("acceptance.rounds" in fitting) == (recipe.acceptance is not None)
    assert ("training.lora.rank" in fitting) == (recipe.training.lora is not None)
    assert fitting["sampling.branches"] == 2


def test_settings_reach_every_recipe_that_has_the_section() -> None:
    made = plan("rlsf", "rlsf-online", online={"max_steps": 3}, sampling={"branches": 4})
    assert made.methods["rlsf"].online is None
    online = made.methods["rlsf-online"].online
    assert online is not None
    assert online.max_steps == 3
    assert {recipe.sampling.branches for recipe in (*made.methods.values(), made.start)} == {4}
    assert made.settings == {"online.max_steps": "3", "sampling.branches": "4"}
    assert made.start.prompts.path is None, "the model as given is measured and learns nothing"


@pytest.mark.parametrize(
    ("names", "overrides", "said"),
    [
        (("rlsf",), {"online": {"max_steps": 3}}, "--online.max_steps reaches none of rlsf"),
        (("rlsf",), {"seed": 3}, "say --seeds"),
        (("rlsf",), {"sampling": {"brances": 3}}, "recipe rlsf: unknown key 'sampling.brances'"),
        (("rlsf", "rlsf-online"), {"answer": {"format": "elicited"}}, "recipe rlsf-online: answer.format=elicited"),
        (("rlsf",), {"evaluation": {"modes": ["majority"]}}, "leave greedy in evaluation.modes"),
        (("rc-rm",), {}, "recipe rc-rm trains a reward model and no policy"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_work(names: Any, overrides: Any, said: str) -> None:
    with pytest.raises(InputError) as refused:
        plan(*names, **overrides)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_comparison_needs_something_to_measure_on() -> None:
    with pytest.raises(InputError, match="nothing to measure on"):
        make_plan(["rlsf"], [0], lambda _: {}, {})


def test_a_plan_says_what_became_of_another_question(tmp_path: Path) -> None:
    folder = ComparisonFolder(tmp_path)
    first = plan("rlsf", "nft", seeds=(0, 1))
    folder.open(first, resume=False)
    kept = folder.read_plan()
    assert kept is not None
    assert first.changed(kept) == []
    assert plan("rlsf", "nft", seeds=(0, 1), sampling={"workers": 3, "batch_tokens": 9}).changed(kept) == []
    assert plan("rlsf", "nft", seeds=(0,)).changed(kept) == ["seeds: [0, 1] -> [0]"]
    other = plan("rlsf", "nft", seeds=(0, 1), training={"beta": 0.3})
    assert "methods.rlsf.training.beta: 0.2 -> 0.3" in other.changed(kept)
    folder.close()
    work = folder.run("rlsf", 0) / "recipe.yaml"
    work.parent.mkdir(parents=True)
    work.write_text("recipe: rlsf")
    with pytest.raises(InputError, match=r"another question \(seeds: \[0, 1\] -> \[0\]\)"):
        folder.open(plan("rlsf", "nft", seeds=(0,)), resume=True)
    folder.open(first, resume=True)  # the refused one has let go of the folder
    folder.close()


def test_for_a_curve_every_checkpoint_of_a_policy_is_kept() -> None:
    names = ("rlsf", "rlsf-online", "rise-introspection", "rlsf-rm", "drr")
    made = make_plan(names, (0,), lambda _: DATA, {"online": {"save_every": 24}}, curve=True)
    assert made.settings == {"online.save_every": "24"}, "what was said, and nothing else"
    of = made.methods
    assert of["rlsf"].training.keep_checkpoints == "all"
    assert of["rlsf"].online is None
    for name in ("rlsf-online", "rlsf-rm"):
        online = of[name].online
        assert online is not None
        assert online.keep_checkpoints == "all"
    assert of["rlsf-rm"].reward_model is not None
    assert of["rlsf-rm"].reward_model.keep_checkpoints == 2
    introspection = of["rise-introspection"].introspection
    assert introspection is not None
    assert introspection.training.keep_checkpoints == "all"
    few = make_plan(["rlsf"], (0,), lambda _: DATA, {"training": {"keep_checkpoints": 5}}, curve=True)
    assert few.methods["rlsf"].training.keep_checkpoints == 5


def test_a_plan_without_a_word_of_curves_is_one_without() -> None:
    made = plan("rlsf")
    old = {key: value for key, value in made.content().items() if key != "curve"}
    assert made.changed(old) == []
    assert make_plan(["rlsf"], (0,), lambda _: DATA, {}, curve=True).changed(made.content()) == ["curve: False -> True"]


def seeded(name: str, seed: int = 0, **overrides: Any) -> Recipe:
    return plan(name, **overrides).methods[name].model_copy(update={"seed": seed})


def test_equal_sampling_is_done_once() -> None:
    alike = [seeded(name) for name in ("rlsf", "rlsf-trace", "random-pairs", "rlsf-rm")]
    assert len({learning_key(recipe) for recipe in alike}) == 1
    assert len({question_key(recipe) for recipe in (*alike, seeded("rlsf-online"))}) == 1


@pytest.mark.parametrize(
    "overrides",
    [{"sampling": {"branches": 3}}, {"render": {"system": "Think."}}, {"answer": {"format": "boxed"}}],
)
def test_other_sampling_is_not_shared(overrides: Any) -> None:
    assert learning_key(seeded("rlsf", **overrides)) != learning_key(seeded("rlsf"))
    assert question_key(seeded("rlsf", **overrides)) != question_key(seeded("rlsf"))
    assert learning_key(seeded("rlsf", seed=1)) != learning_key(seeded("rlsf"))


def test_what_is_taught_first_or_samples_its_own_way_shares_nothing() -> None:
    assert question_key(seeded("rlcr", online={"warm_up": {"steps": 5}})) is None
    for name in ("rlsf-online", "rise-introspection", "drr"):
        assert learning_key(seeded(name)) is None


def test_a_cap_of_tokens_is_shared_out_by_rounds() -> None:
    capped = {"budget": {"generated_tokens": 10**6}}
    assert learning_key(seeded("rlsf", **capped)) == learning_key(seeded("rlsf-trace", **capped))
    assert learning_key(seeded("rlsf", **capped)) != learning_key(seeded("rlsf", training={"rounds": 2}, **capped))
    assert learning_key(seeded("rlsf")) == learning_key(seeded("rlsf", training={"rounds": 2}))


def test_lenders_come_before_those_who_borrow(tmp_path: Path) -> None:
    made = plan("rlsf", "rlsf-trace", "rlsf-online", "drr", seeds=(0, 5))
    jobs = jobs_of(made, ComparisonFolder(tmp_path))
    places = [job.folder for job in jobs]
    assert len(places) == len(set(places))
    for place, job in enumerate(jobs):
        assert all(places.index(lender) < place for lender in job.lenders)
    by_name = {job.name: job for job in jobs}
    assert {name for name in by_name if name.startswith(BEFORE)} == {"before, seed 0", "before, seed 5"}
    assert len(by_name["rlsf, seed 5"].lenders) == 2
    assert by_name["rlsf, seed 5"].lenders == by_name["rlsf-trace, seed 5"].lenders
    assert not set(by_name["rlsf, seed 0"].lenders) & set(by_name["rlsf, seed 5"].lenders)
    assert by_name["rlsf-online, seed 0"].lenders == (tmp_path / "runs" / BEFORE / "seed-0",)
    assert [job.recipe.seed for job in jobs if job.stages == "all"] == [0] * 4 + [5] * 4


def test_only_the_loop_around_a_policy_is_measured_by_itself() -> None:
    assert {name: mode_of(resolve(name)) for name in ("rlsf", "drr", "nft", "rise-introspection")} == {
        "rlsf": "greedy",
        "drr": "retry",
        "nft": "greedy",
        "rise-introspection": "greedy",
    }


def test_only_what_is_compared_is_measured() -> None:
    """One answer a question: then the model as given serves recipes that differ in the number of their samples."""
    assert what_is_compared("rlsf") == {"evaluation": {"modes": ["greedy"]}}
    assert what_is_compared("drr") == {"evaluation": {"modes": ["greedy", "retry"]}}
    assert what_is_compared("rise-introspection") == {"evaluation": {"modes": ["greedy", "turns"]}}

    def keys(measured: bool) -> set[str | None]:
        def base(name: str) -> Layer:
            mine = {"sampling": {"branches": {BEFORE: 10, "rlsf": 4}.get(name, 6)}}
            compared = what_is_compared(MEASURES if name == BEFORE else name) if measured else {}
            return merge(DATA, merge(mine, compared))

        made = make_plan(["rlsf", "rlsf-online"], [0], base, {})
        return {question_key(recipe) for recipe in (made.start, *made.methods.values())}

    assert len(keys(measured=True)) == 1
    assert len(keys(measured=False)) == 3
