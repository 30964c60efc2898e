"""The page: well-formed, self-contained, escaped, complete with and without training."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from html.parser import HTMLParser

import pytest
from report_example import branch

from rlsf.answers.answer import Answer
from rlsf.report.html import environment_rows, render_report
from rlsf.report.inputs import BranchSet, QuestionView, ReportInputs

VOID = {"meta", "link", "input", "br", "hr", "img", "path", "use", "rect", "circle"}
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> & \"quotes\" 'n' </textarea></style>"


class Page(HTMLParser):
    """Tags that do not match, ids, references, scripts and the text outside style and script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.mismatched: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.anchors: list[str] = []
        self.scripts: list[str] = []
        self.handlers: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
                (self.anchors if (value or "").startswith("#") else self.references).append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.mismatched.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.texts))


@pytest.fixture(scope="module")
def html(inputs: ReportInputs) -> str:
    return render_report(inputs)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_page_is_well_formed(page: Page) -> None:
    assert page.mismatched == []
    assert page.open == []


def test_the_checker_sees_what_is_wrong() -> None:
    broken = Page('<p id="a"><b></p></b><img src="http://x/y" onclick="z"><script>s</script>')
    assert (broken.mismatched, broken.references, broken.handlers) == (["p", "b"], ["http://x/y"], ["onclick"])


def test_nothing_is_loaded_from_anywhere(html: str, page: Page) -> None:
    assert page.references == ["data:,"]  # an empty icon, so that no browser asks for /favicon.ico
    assert page.handlers == []
    assert re.findall(r"url\((?!#)", html) == []
    assert "@import" not in html
    assert [address for address in re.findall(r"https?://[^\s\"'<>]+", html) if "www.w3.org" not in address] == []


def test_ids_are_unique_and_links_inside_the_page_resolve(page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    assert {anchor[1:] for anchor in page.anchors} <= set(page.ids)


def test_the_security_policy_admits_the_one_script(html: str, page: Page) -> None:
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy
    assert f"script-src 'sha256-{digest}'" in policy[1].replace("&#39;", "'")
    assert policy[1].startswith("default-src &#39;none&#39;") or policy[1].startswith("default-src 'none'")


def test_sections_and_headline_numbers(inputs: ReportInputs, page: Page) -> None:
    assert inputs.summary is not None
    wanted = {"result", "calibration", "training", "traces", "recipe", "definitions", "limits"}
    assert wanted <= set(page.ids)
    for phase in ("before", "after"):
        for mode, values in inputs.summary[phase].items():
            assert f"{100 * values['accuracy']:.1f}\u202f%".replace("\u202f", " ") in page.text, (phase, mode)
            assert f"{values['ece']:.3f}" in page.text
            low, high = values["intervals"]["auroc"]
            assert f"{low:.3f}–{high:.3f}" in page.text
    for mode in inputs.summary["difference"].values():
        low, high = (f"{bound:+.3f}".replace("-", "−") for bound in mode["brier"]["interval"])
        assert f"{low} to {high}" in page.text
    assert "1752" in page.text


def test_every_token_of_every_shown_trace_is_there(inputs: ReportInputs, html: str) -> None:
    shown = re.findall(r'<p class="tokens">(.*?)</p>', html, flags=re.DOTALL)
    texts = [re.sub(r"<[^>]+>", "", one).replace("↵", "") for one in shown]
    expected = [view.trace.text for question in inputs.questions for one in question.sets for view in one.branches]
    assert texts == expected
    assert html.count("<mark>") == sum(
        view.trace.answer is not None for question in inputs.questions for one in question.sets for view in one.branches
    )


def test_preferences_are_marked(html: str) -> None:
    assert "★ chosen in 4 pairs" in html
    assert "rejected in 1 pair<" in html


def test_model_output_is_shown_literally(inputs: ReportInputs) -> None:
    view = branch("x", ("</p>", HOSTILE, "<b>", "7"), answer=Answer("<b>7", 2, 4), confidence=0.5, correct=True)
    question = QuestionView(
        "x", HOSTILE, (BranchSet(HOSTILE, (view,)),), choices=(HOSTILE,), gold=HOSTILE, group=HOSTILE
    )
    recipe = inputs.recipe.model_copy(
        update={"render": inputs.recipe.render.model_copy(update={"few_shot": HOSTILE}), "signal": HOSTILE}
    )
    hostile = dataclasses.replace(
        inputs, name=HOSTILE, recipe=recipe, environment={HOSTILE: HOSTILE}, questions=(question,)
    )
    page = Page(render_report(hostile))
    assert (page.mismatched, page.open, page.handlers) == ([], [], [])
    assert len(page.scripts) == 1
    assert "alert" not in page.scripts[0]
    assert page.text.count("<script>alert(1)</script>") >= 10
    assert page.references == ["data:,"]


def test_evaluation_alone_makes_a_page_without_after(measured_only: ReportInputs) -> None:
    page = Page(render_report(measured_only))
    assert (page.mismatched, page.open) == ([], [])
    assert "training" not in page.ids
    assert "Accuracy measured" in page.text
    assert "not distinguishable" not in page.text
    assert "n/a" not in page.text


def test_training_without_evaluation(inputs: ReportInputs) -> None:
    page = Page(render_report(dataclasses.replace(inputs, summary=None, questions=(), outcomes={})))
    assert (page.mismatched, page.open) == ([], [])
    assert "training" in page.ids
    assert not {"result", "calibration", "traces", "definitions"} & set(page.ids)
    assert "Nothing was measured" in page.text


def test_an_undefined_auroc_is_said_to_be_undefined(inputs: ReportInputs) -> None:
    assert inputs.summary is not None
    greedy = inputs.summary["after"]["greedy"]
    undefined = {**greedy, "auroc": None, "intervals": {**greedy["intervals"], "auroc": None}}
    difference = inputs.summary["difference"]
    no_difference = {"value": None, "interval": None, "probability_of_improvement": None}
    summary = {
        **inputs.summary,
        "after": {**inputs.summary["after"], "greedy": undefined},
        "difference": {**difference, "greedy": {**difference["greedy"], "auroc": no_difference}},
    }
    page = Page(render_report(dataclasses.replace(inputs, summary=summary, questions=())))
    assert page.text.count("n/a") == 2  # the value after, and the difference
    assert "None" not in re.sub(r"null|None of", "", page.text)
    assert "nan" not in page.text.lower().replace("nats", "")


def test_equal_inputs_give_equal_bytes(inputs: ReportInputs, html: str) -> None:
    assert render_report(dataclasses.replace(inputs)) == html


def test_environment_is_flattened_and_empty_entries_are_dropped() -> None:
    rows = environment_rows({"git_commit": None, "accelerators": [], "packages": {"a": "1", "b": "2"}, "cores": 2})
    assert rows == [("packages", "a 1, b 2"), ("cores", "2")]


def _luminance(colour: tuple[float, ...]) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _themes(html: str) -> list[dict[str, str]]:
    return [dict(re.findall(r"--([\w-]+): ([^;]+);", block)) for block in re.findall(r":root \{([^}]*)\}", html)[:2]]


def _rgb(value: str) -> tuple[float, ...]:
    return tuple(int(value[at : at + 2], 16) / 255 for at in (1, 3, 5))


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_that_wcag_aa_asks_for(html: str, theme: int) -> None:
    colours = _themes(html)[theme]
    for ground in ("paper", "raised"):
        for text in ("ink", "muted", "before", "after", "right", "wrong"):
            assert _contrast(_rgb(colours[text]), _rgb(colours[ground])) >= 4.5, (text, ground)
    heat = tuple(int(part) / 255 for part in colours["heat"].split())
    alpha = float(colours["heat-most"])
    shaded = tuple(alpha * h + (1 - alpha) * p for h, p in zip(heat, _rgb(colours["paper"]), strict=True))
    assert _contrast(_rgb(colours["ink"]), shaded) >= 4.5
