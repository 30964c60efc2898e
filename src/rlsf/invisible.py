"""Characters that must not reach a page or a terminal as they are: they would act there instead of being read."""

from __future__ import annotations

#: C0, delete and C1 controls, the escape of a terminal's commands among them; marks, embeddings and isolates of
#: writing direction. Each is named in its place: ``⟨U+001B⟩``.
NAMED = {
    code: f"⟨U+{code:04X}⟩"
    for code in (
        *range(0x20),
        *range(0x7F, 0xA0),
        0x061C,
        0x200E,
        0x200F,
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    )
}

_BREAKS = {code: name for code, name in NAMED.items() if chr(code) not in "\n\t"}
_ESCAPED = {code: f"\\u{code:04x}" for code in NAMED if chr(code) not in "\n\t"}


def safe(text: str) -> str:
    """``text`` with its control characters named; line ends and tabs stay."""
    return text.translate(_BREAKS)


def escaped(text: str) -> str:
    """JSON text that says the same, with the control characters escaped that JSON lets stand in its strings."""
    return text.translate(_ESCAPED)
