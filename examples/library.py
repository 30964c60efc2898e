"""The library in ten lines: RLSF (arXiv 2507.21931) on the bundled model, and what it changed.

    python examples/library.py

Put your own model and files in their places, and leave the demo's settings out: the recipe's own are for large models.
"""

from pathlib import Path

import rlsf
from rlsf.demo import MODEL_DIR, write_data
from rlsf.demo.settings import demo_settings


def main(folder: Path = Path("runs/library"), questions: int = 400, test: int = 500) -> dict:
    """Learn from unlabelled questions, measure on labelled ones."""
    prompts, labelled = write_data(folder / "data", questions, test)
    settings = demo_settings("rlsf")  # sections of the recipe, {"sampling": {"max_new_tokens": 96}, ...}
    summary = rlsf.run(
        "rlsf", model=MODEL_DIR, prompts=prompts, eval_data=labelled, output=folder / "run", resume=True, **settings
    )
    for when in ("before", "after"):
        greedy = summary[when]["greedy"]
        print(f"{when:7} accuracy {greedy['accuracy']:.1%}  ECE {greedy['ece']:.3f}")
    return summary


if __name__ == "__main__":  # sampling processes import this file
    main()
