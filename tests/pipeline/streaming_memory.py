"""Samples and ranks with a model of one layer; prints the most memory that the process has held, after each number.

usage: streaming_memory.py FOLDER NUMBER...
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / "models")]

from tiny_models import byte_level_tokenizer, tiny_llama

from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.preflight import preflight
from rlsf.pipeline.ranking import rank_stage
from rlsf.pipeline.sampling import sample_stage
from rlsf.recipes import resolve


def main() -> None:
    folder = Path(sys.argv[1])
    model = folder / "model"
    tiny_llama(num_hidden_layers=1).save_pretrained(model)
    byte_level_tokenizer(bos_token="<s>", eos_token="</s>").save_pretrained(model)
    for count in map(int, sys.argv[2:]):
        prompts = folder / f"{count}.jsonl"
        prompts.write_text(
            "".join(json.dumps({"id": f"p{n}", "question": f"how many apples are {n}?"}) + "\n" for n in range(count))
        )
        recipe = resolve(
            "rlsf",
            None,
            {
                "model": {"path": str(model)},
                "prompts": {"path": str(prompts)},
                "sampling": {"branches": 2, "max_new_tokens": 4, "workers": 1, "shard_prompts": 100},
            },
        )
        run = Run(recipe, RunFolder(folder / f"{count}.run"))
        preflight(run)
        with run.open(resume=False):
            # Not the whole sampling round, which refuses a model that gives no answers.
            sample_stage(run, "sample", recipe.model, run.prompts, run.folder.traces(1), 0, recipe.sampling)
            rank_stage(run, 1)
        print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main()
