"""The example of docs/token-statistics.md runs, and its self-certainty is that of the definition."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch

PAGE = Path(__file__).parents[2] / "docs" / "token-statistics.md"


def test_the_example() -> None:
    [code] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    logits = names["hidden"].double() @ names["head"].weight.double().T
    expected = -logits.log_softmax(-1).mean(-1) - math.log(32_000)
    torch.testing.assert_close(names["self_certainty"].double(), expected, atol=1e-5, rtol=1e-6)
