"""Words and boxes as SVG, from the top down, in letters large enough for telephones: what diagrams are made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlsf.report.svg import AFTER, INK, LINE, PAPER

WIDTH, EDGE, SHADE = 760, 24, "#f0ede4"
INNER = WIDTH - 2 * EDGE


def words(x: float, y: float, text: str, size: int = 19, colour: str = INK, more: str = "") -> str:
    """One line of text, marked up already."""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}" xml:space="preserve"{more}>{text}</text>'


def box(y: float, height: float, x: float = EDGE, width: float = INNER) -> str:
    """A box with round corners."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8" fill="{SHADE}" stroke="{LINE}"/>'


@dataclass
class Sheet:
    """A drawing under way; ``y`` is where the next thing begins."""

    title: str
    y: float = EDGE
    parts: list[str] = field(default_factory=list)

    def add(self, part: str, height: float) -> None:
        """Put a part at ``y`` and go on below it."""
        self.parts.append(part)
        self.y += height

    def step(self, number: int, name: str) -> None:
        """A number in a circle and what happens there."""
        y = self.y + 16
        circle = f'<circle cx="{EDGE + 16}" cy="{y:g}" r="16" fill="{AFTER}"/>'
        digit = words(EDGE + 16, y + 7, str(number), 20, "#ffffff", ' text-anchor="middle" font-weight="700"')
        self.add(circle + digit + words(EDGE + 44, y + 7, name, 22, INK, ' font-weight="700"'), 40)

    def lines(self, *lines: str) -> None:
        """Lines of marked-up text in a box."""
        height = 28 * len(lines) + 18
        inside = (words(EDGE + 16, self.y + 30 + 28 * place, line) for place, line in enumerate(lines))
        self.add(box(self.y, height) + "".join(inside), height + 24)

    def svg(self) -> str:
        """The drawing as a file of its own."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.y:g}" role="img"'
            f' aria-label="{self.title}" font-family="system-ui, sans-serif"><title>{self.title}</title>'
            f'<rect width="100%" height="100%" fill="{PAPER}"/>{"".join(self.parts)}</svg>\n'
        )
