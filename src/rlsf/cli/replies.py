"""What ``rlsf ask`` shows of a reply: the answer, its confidence, the trace behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from rlsf.cli.shading import in_colour, legend, marked, one_line, shaded
from rlsf.invisible import safe

if TYPE_CHECKING:
    from rlsf.pipeline.asking import Asking, Reply

#: Other answers that are counted one by one; of more, the last are counted together.
_ANSWERS = 5


def show(
    reply: Reply, asking: Asking, console: Console, *, misfit: str | None = None, show_guess: bool = False
) -> None:
    """Print a reply. ``misfit``: why a calibration that is there is not used.

    Where the model abstains, its guess and the trace are shown only on demand.
    """
    colour = in_colour(console)
    if reply.abstained:
        _say(console, refusal(reply, asking), "bold")
        if not show_guess:
            _say(console, "--show-guess shows the best guess", "dim")
            return
        _say(console, f"best guess: {one_line(reply.guess or '')}", "dim")
    elif reply.guess is None:
        _say(console, f"no answer found: {one_line(reply.reason or '')}", "bold")
    else:
        _show_answer(reply.guess, console)
        _say(console, f"confidence {trust(reply, asking)}")
    if misfit:
        _say(console, not_used(misfit), "yellow")
    if said := others(reply):
        _say(console, said)
    _say(console, f"\ntrace {_place(reply)}:", "dim")
    _show_trace(reply, console, colour)


def _show_answer(answer: str, console: Console) -> None:
    """In a frame on a terminal; in a pipe alone on its lines, however long they are."""
    if console.is_terminal:
        text = Text(safe(answer), style="bold")
        console.print(Panel(text, box=box.HEAVY, expand=False, padding=(0, 2)))
    else:
        _say(console, answer, "bold")


def _show_trace(reply: Reply, console: Console, colour: bool) -> None:
    answer = reply.trace.answer
    span = (answer.start, answer.end) if answer else None
    probability = reply.trace.statistics.probability.tolist()
    if colour:
        console.print(shaded(reply.pieces, probability, span))
    else:
        _say(console, marked(reply.pieces, probability, span))
    console.print(legend(colour, answer is not None), highlight=False, soft_wrap=True)


def not_used(misfit: str) -> str:
    """Why the confidence is the model's own although there is a calibration."""
    return f"the calibration beside the model is not used: it was made for {misfit}"


def trust(reply: Reply, asking: Asking) -> str:
    """``78 % (calibrated on 500 questions)``, or whose number it is where nothing makes it a probability."""
    if reply.confidence is None:
        return f"unknown: {reply.reason}"
    if asking.calibration is not None:
        return f"{estimate(reply.confidence)} (calibrated on {asking.calibration.questions} questions)"
    own = "the share of traces that agree" if asking.mode == "majority" else f"the model's own {asking.recipe.signal}"
    return f"{percent(reply.confidence)} (uncalibrated: {own}; `rlsf calibrate` makes it a probability)"


def refusal(reply: Reply, asking: Asking) -> str:
    """Why the model abstains, and what would have been enough."""
    made = asking.calibration
    assert made is not None
    threshold = made.threshold
    promise = f"at most {percent(threshold.alpha)} errors among answered (confidence {percent(1 - threshold.delta)})"
    if threshold.value is None:
        return f"I would rather not answer: no confidence is enough for {promise}: {threshold.reason}"
    if reply.measured is None:
        return f"I would rather not answer: {reply.reason}, and nothing is promised without one"
    has, needs = estimate(reply.confidence or 0.0), estimate(float(made.probability(threshold.value)))
    if has == needs:  # the calibrator is flat there, or rises by less than is shown
        has, needs = f"{has}, measured as {reply.measured:.4f}", f"{threshold.value:.4f}"
    return f"I would rather not answer: confidence {has}, below the {needs} needed for {promise}"


def estimate(probability: float) -> str:
    """A calibrated probability in per cent: no number of questions shows that it is 0 or 1, whatever was fitted."""
    return percent(min(max(probability, 1e-9), 1 - 1e-9))


def percent(share: float) -> str:
    """``78 %``; what is not quite certain or impossible never reads as if it were."""
    rounded = f"{100 * share:.0f}"
    if rounded == "100" and share < 1:
        return "> 99 %"
    if rounded == "0" and share > 0:
        return "< 1 %"
    return f"{rounded} %"


def others(reply: Reply) -> str:
    """``4 of 10 traces say 12, 3 say 14; 3 have no answer``; nothing of a single trace."""
    if reply.traces == 1 or not reply.votes:
        return ""
    (first, count), *rest = reply.votes
    parts = [f"{count} of {reply.traces} traces {_says(count)} {one_line(first)}"]
    shown = len(rest) if len(rest) <= _ANSWERS else _ANSWERS - 1
    parts += [f"{number} {_says(number)} {one_line(answer)}" for answer, number in rest[:shown]]
    if more := sum(number for _, number in rest[shown:]):
        parts.append(f"{more} say something else")
    silent = reply.traces - sum(number for _, number in reply.votes)
    return ", ".join(parts) + (f"; {silent} {'has' if silent == 1 else 'have'} no answer" if silent else "")


def _says(count: int) -> str:
    return "says" if count == 1 else "say"


def _place(reply: Reply) -> str:
    index, tokens = reply.trace.index + 1, len(reply.trace.token_ids)
    start = "" if index == 1 else f", begun with its first token of rank {index}"
    cut = ", cut at sampling.max_new_tokens" if reply.trace.truncated else ""
    return f"{index} of {reply.traces}, {tokens} token{'' if tokens == 1 else 's'}{start}{cut}"


def _say(console: Console, text: str, style: str = "") -> None:
    """Between words on a terminal; in a pipe a line stays one, however long it is."""
    console.print(Text(safe(text), style), highlight=False, soft_wrap=not console.is_terminal)
