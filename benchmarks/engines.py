"""Traces a second of CoT-decoding by the transformers engine and by vLLM, on the same prompts, starts left out.

.venv-vllm/bin/python benchmarks/engines.py [--quick] [--large] [--json FILE]

Both record the two likeliest tokens of every step (the transformers engine all statistics), each in a process of its
own, with the same threads. ``--large``: a random model of the width of Qwen2-0.5B, too, with 2 of its 24 layers where
quick. Quick figures are of vLLM without compilation. Other work on the same cores spoils the figures.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from _shared import in_own_process, options, show, write_json
from rlsf.demo import MODEL_DIR
from rlsf.models import ModelConfig
from rlsf.sampling import SamplingConfig
from rlsf.sampling.pool import EnginePool, engine_for
from sampling import BRANCHES, prompts, random_qwen2, tokenizer

ENGINES = ("transformers", "vllm")


def measure(engine: str, folder: str, count: int, new_tokens: int, repeats: int) -> dict[str, float]:
    """Start, warm up, and the shortest of some repetitions, in seconds."""
    vllm = {"cache_gib": 2, "enforce_eager": repeats == 1}
    said = {"path": folder, "device": "cpu", "dtype": "float32", "engine": engine, "vllm": vllm}
    sampling = SamplingConfig(branches=BRANCHES, max_new_tokens=new_tokens)
    with EnginePool(1):
        started = time.perf_counter()
        sampler = engine_for(ModelConfig.model_validate(said))
        start = time.perf_counter() - started
        list(sampler.sample(prompts(count)[:2], sampling))
        seconds = []
        for repeat in range(repeats):
            # Other questions each time: vLLM keeps the states of those that it has read.
            requests = prompts(count * (repeats + 1))[(repeat + 1) * count : (repeat + 2) * count]
            before = time.perf_counter()
            traces = [trace for group in sampler.sample(requests, sampling) for trace in group]
            seconds.append((time.perf_counter() - before) / len(traces))
    return {"start": start, "traces_a_second": 1 / min(seconds)}


def write_model(folder: str, layers: int) -> None:
    """The random model with the bundled tokenizer, as a folder."""
    random_qwen2(layers).save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def main() -> None:
    """Compare, show, and write what was asked for."""
    parser = options(__doc__ or "")
    parser.add_argument("--large", action="store_true", help="a random model of the width of Qwen2-0.5B, too")
    said = parser.parse_args()
    count, repeats = (32, 1) if said.quick else (128, 3)
    with tempfile.TemporaryDirectory() as scratch:
        models = {"bundled": (str(MODEL_DIR), count, 96)}
        if said.large:
            folder = str(Path(scratch, "qwen2"))
            # A process that has computed with several threads must not be forked from.
            in_own_process(write_model, folder, 2 if said.quick else 24)
            models["qwen2-0.5b"] = (folder, 4 if said.quick else 8, 32)
        figures = {
            name: {engine: in_own_process(measure, engine, *sizes, repeats) for engine in ENGINES}
            for name, sizes in models.items()
        }
    for name, found in figures.items():
        ratio = found["vllm"]["traces_a_second"] / found["transformers"]["traces_a_second"]
        rows = [
            [engine, f"{found[engine]['start']:.1f}", f"{found[engine]['traces_a_second']:.1f}"] for engine in ENGINES
        ]
        show(f"{name}: vLLM is {ratio:.2f} times as fast", ["engine", "start, s", "traces a second"], rows)
    write_json(said.json, figures)


if __name__ == "__main__":
    main()
