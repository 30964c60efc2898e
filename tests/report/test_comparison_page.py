"""The page of a comparison: well-formed, self-contained, escaped, with the comparison's numbers, whole and in part."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from comparison_example import example_comparison
from test_report_html import HOSTILE, Page

from rlsf.evaluation.comparison_schema import Asked, Comparison
from rlsf.report.comparison import ACCURACY, BRIER, ECE
from rlsf.report.comparison_matrix import matrices
from rlsf.report.comparison_page import render_comparison, write_comparison_page
from rlsf.report.comparison_view import finding, groups, pair, rows, verdict
from rlsf.report.format import probability


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return example_comparison()


@pytest.fixture(scope="module")
def html(comparison: Comparison) -> str:
    return render_comparison(comparison)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def without(comparison: Comparison, *recipes: str) -> Comparison:
    """The comparison had these recipes not been there."""
    return comparison.model_copy(
        update={
            "methods": tuple(one for one in comparison.methods if one.recipe not in recipes),
            "pairs": {
                metric: tuple(one for one in pairs if not {one.first, one.second} & set(recipes))
                for metric, pairs in comparison.pairs.items()
            },
        }
    )


def test_the_page_is_well_formed_and_loads_nothing(html: str, page: Page):
    assert (page.mismatched, page.open, page.handlers, page.scripts) == ([], [], [], [])
    assert page.references == ["data:,"]
    assert len(page.ids) == len(set(page.ids))
    assert {anchor[1:] for anchor in page.anchors} <= set(page.ids)
    assert [address for address in re.findall(r"https?://[^\s\"'<>]+", html) if "www.w3.org" not in address] == []
    assert "default-src &#39;none&#39;" in html or "default-src 'none'" in html


def test_every_section_is_there(page: Page):
    assert {"result", "tradeoff", "reliability", "cost", "pairs", "asked", "reading"} <= set(page.ids)
    for text in ("rlsf compare --demo", "200\u202f000", "no limit", "training.epochs", "200 resamples"):
        assert text in page.text.replace(" 000", "\u202f000"), text


def test_numbers_are_those_of_the_comparison(comparison: Comparison, page: Page):
    for method in comparison.methods:
        assert method.recipe in page.text
        for metric in (ACCURACY, ECE, BRIER):
            if method.figures:
                figure = method.figures[metric.key]
                assert metric.value(figure.value).replace("\u202f", " ") in page.text
                assert metric.bounds(figure.interval) in page.text
                assert all(metric.value(value).replace("\u202f", " ") in page.text for value in figure.by_seed.values())
    assert "2 of 3" in page.text
    assert "every run failed" in page.text
    assert page.text.count("loss is NaN") == 1
    assert page.text.count("CUDA out of memory") == 3


def test_groups_stand_apart_the_most_accurate_first(comparison: Comparison):
    found = {group.kind: [row.method.recipe for row in group.rows] for group in groups(comparison)}
    assert found == {
        "start": ["before"],
        "self-feedback": ["intuitor", "rlsf", "drr", "rc-rm"],
        "labelled": ["rlcr"],
        "bound": ["grpo-gold", "random-pairs"],
    }


def test_changes_are_against_the_model_as_given(comparison: Comparison):
    changes = {row.method.recipe: row.change for row in rows(comparison)}
    assert changes["before"] is None
    assert changes["rc-rm"] is None
    expected = pair(comparison, ACCURACY, "before", "grpo-gold")
    assert changes["grpo-gold"].contrast == expected
    assert changes["grpo-gold"].finding == "better"
    assert changes["random-pairs"].finding == "unclear"


def test_another_decoding_is_compared_with_its_own_reference(comparison: Comparison):
    against = {"accuracy": pair(comparison, ACCURACY, "before", "drr").model_copy(update={"value": 0.321, "p": 0.04})}
    changed = [
        one.model_copy(update={"mode": "retry", "against_reference": against}) if one.recipe == "drr" else one
        for one in comparison.methods
    ]
    other = comparison.model_copy(update={"methods": tuple(changed)})
    row = next(row for row in rows(other) if row.method.recipe == "drr")
    assert (row.change.value, row.decoding) == ("+32.1", "Retry")
    assert "measured by Retry" in Page(render_comparison(other)).text


def test_a_pair_reads_the_same_both_ways_round(comparison: Comparison):
    forth, back = pair(comparison, ECE, "before", "rlcr"), pair(comparison, ECE, "rlcr", "before")
    assert (back.value, back.p, back.p_holm) == (-forth.value, forth.p, forth.p_holm)
    assert back.interval == (-forth.interval[1], -forth.interval[0])
    assert pair(comparison, ECE, "before", "rc-rm") is None


def test_findings_follow_p_correction_and_direction(comparison: Comparison):
    one = pair(comparison, ACCURACY, "before", "rlcr").model_copy(update={"value": 0.1, "p": 0.01, "p_holm": 0.2})
    assert finding(ACCURACY, one) == "leaning better"
    assert finding(ECE, one) == "leaning worse"
    assert finding(ACCURACY, one.model_copy(update={"p_holm": 0.04})) == "better"
    assert finding(BRIER, one.model_copy(update={"p_holm": 0.04})) == "worse"
    assert finding(ACCURACY, one.model_copy(update={"p": 0.05})) == "unclear"
    assert [probability(p) for p in (None, 0.0004, 0.0316)] == ["n/a", "<0.001", "0.032"]


def test_the_matrix_is_antisymmetric_and_its_list_complete(comparison: Comparison):
    mirrored = {"better": "worse", "leaning better": "leaning worse", "unclear": "unclear"}
    mirrored |= {second: first for first, second in mirrored.items()}
    for matrix in matrices(comparison, rows(comparison)):
        size = len(matrix.names)
        assert size == 7
        assert "rc-rm" not in matrix.names
        for i in range(size):
            assert matrix.cells[i][i] is None
            for j in set(range(size)) - {i}:
                assert matrix.cells[i][j].finding == mirrored[matrix.cells[j][i].finding]
                assert matrix.cells[i][j].said.startswith(f"{matrix.names[i]} less {matrix.names[j]}: ")
        assert len(matrix.lines) == 21
        told = sum(cell.finding in ("better", "worse") for row in matrix.cells for cell in row if cell) / 2
        assert told == matrix.told_apart


def test_pairs_are_readable_without_pointer_or_colour(html: str, page: Page):
    assert html.count('class="matrix"') == 3
    assert html.count("<td class=") > 3 * 42
    assert page.text.count("p corrected") >= 3
    lists = page.text.partition("The numbers of all pairs, ")[2]
    assert re.search(r"rlcrbefore\+\d[\d.+ to<]*better", lists)
    matrix = html[html.index('class="matrix"') : html.index("</table>", html.index('class="matrix"'))]
    symbols = re.findall(r'<td class="(\w+)" title="[^"]+">(.)</td>', matrix)
    assert {(kind, symbol) for kind, symbol in symbols} >= {("better", "▲"), ("worse", "▼"), ("unclear", "·")}


def test_sentences_are_computed(comparison: Comparison):
    first, second, *bounds = verdict(comparison)
    assert first.startswith("Most accurate of the methods that learn from the model's own feedback: intuitor")
    assert second.startswith("Most accurate of the methods that learn from gold answers: rlcr")
    for sentence, bound in zip(bounds, ("grpo-gold", "random-pairs"), strict=True):
        own = [pair(comparison, ACCURACY, bound, name) for name in ("rlsf", "intuitor", "drr")]
        told = [finding(ACCURACY, one) for one in own]
        above, below = told.count("better"), told.count("worse")
        assert sentence.startswith("Of 3 methods that learn from the model's own feedback, ")
        assert (
            f"{above} are more accurate than the bound {bound}, {below} less accurate, and {3 - above - below} "
            in sentence
        )
        assert above + below > 0
    assert verdict(without(comparison, "rlsf", "intuitor", "drr", "rc-rm", "rlcr")) == []


def test_texts_of_others_are_shown_literally():
    hostile = example_comparison(Asked(name=HOSTILE, model=HOSTILE, data=HOSTILE, measured_on=HOSTILE, command=HOSTILE,
                                       settings={HOSTILE: HOSTILE}), broken=HOSTILE)  # fmt: skip
    names = {one.recipe: f"{one.recipe}{HOSTILE}$x$" for one in hostile.methods}
    hostile = hostile.model_copy(
        update={
            "methods": tuple(
                one.model_copy(update={"recipe": names[one.recipe], "title": HOSTILE}) for one in hostile.methods
            ),
            "pairs": {
                metric: tuple(
                    one.model_copy(update={"first": names[one.first], "second": names[one.second]}) for one in pairs
                )
                for metric, pairs in hostile.pairs.items()
            },
        }
    )
    page = Page(render_comparison(hostile))
    assert (page.mismatched, page.open, page.handlers, page.scripts, page.references) == ([], [], [], [], ["data:,"])
    assert page.text.count("<script>alert(1)</script>") > 30


@pytest.mark.parametrize(
    "left_out",
    [("before",), ("rlcr", "grpo-gold", "random-pairs"), ("rlsf", "intuitor", "drr", "rc-rm", "rlcr", "grpo-gold")],
)
def test_parts_of_a_comparison_make_a_page(comparison: Comparison, left_out: tuple[str, ...]):
    page = Page(render_comparison(without(comparison, *left_out)))
    assert (page.mismatched, page.open) == ([], [])
    assert "None" not in re.sub(r"\bnone\b", "", page.text)
    assert {anchor[1:] for anchor in page.anchors} <= set(page.ids)


def test_nothing_measured_says_what_failed(comparison: Comparison):
    everything = [one.recipe for one in comparison.methods if one.figures]
    page = Page(render_comparison(without(comparison, *everything)))
    assert (page.mismatched, page.open) == ([], [])
    assert not {"tradeoff", "reliability", "cost", "pairs"} & set(page.ids)
    assert "CUDA out of memory" in page.text


def test_equal_comparisons_give_equal_bytes(comparison: Comparison, html: str, tmp_path: Path):
    write_comparison_page(Comparison.model_validate_json(comparison.model_dump_json()), tmp_path / "a" / "page.html")
    assert (tmp_path / "a" / "page.html").read_text(encoding="utf-8") == html
