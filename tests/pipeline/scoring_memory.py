"""Scores short traces with a model of one layer; prints the most memory that the process has held, after each number.

usage: scoring_memory.py FOLDER NUMBER...
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / "models")]

from given_traces import lines, score
from tiny_models import byte_level_tokenizer, tiny_llama


def main() -> None:
    folder = Path(sys.argv[1])
    model = folder / "model"
    tiny_llama(num_hidden_layers=1).save_pretrained(model)
    byte_level_tokenizer(bos_token="<s>", eos_token="</s>").save_pretrained(model)
    for count in map(int, sys.argv[2:]):
        records = ({"id": f"p{n}", "prompt": f"Q: {n}?", "completion": f"It is {n}."} for n in range(count))
        traces = lines(folder / f"{count}.jsonl", *records)
        score(traces, folder / f"{count}.scored", shard_traces=200, model=model)
        print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main()
