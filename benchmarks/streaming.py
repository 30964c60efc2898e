"""Peak memory of sampling and ranking against the number of prompts, their rates, and the time to resume what is done.

``rlsf sample`` and ``rlsf rank`` as they are, with a model of one layer and a few words that is made here with random
weights: what is measured is everything around the model. The largest resident set of the main process and that of the
largest worker are taken from the system. Usage: python benchmarks/streaming.py [--quick] [--json FILE]
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from _shared import options, show, write_json

SIZES, QUICK_SIZES = (10_000, 200_000), (1_000, 20_000)
WORKERS = 2
WORDS = ("<s>", "</s>", "Q", "A", ":", "?", "What", "is", "plus", "the", "answer", "so", *"0123456789")
SETTINGS = {
    "recipe": "rlsf",
    "model": {"dtype": "float32", "device": "cpu"},
    "sampling": {"branches": 2, "max_new_tokens": 4, "shard_prompts": 256, "workers": WORKERS},
    "answer": {"format": "number"},
    "ranking": {"threshold": 0.0, "truncated": "keep", "without_answer": "reject"},
}


def write_model(folder: Path) -> None:
    """A Llama that knows a few words, with random weights, and its tokenizer."""
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="so"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        initializer_range=0.5,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def write_prompts(path: Path, count: int) -> None:
    """JSON lines of different questions with ids of their own."""
    with path.open("w") as stream:
        for number in range(count):
            question = f"What is {number} plus {7 * number % 1000}?"
            stream.write(json.dumps({"id": f"question-{number}", "question": question}) + "\n")


def measure(*arguments: str, folder: Path) -> dict[str, float]:
    """Seconds of one command of rlsf, and the largest resident sets of its main process and of its largest worker."""
    started, used = time.monotonic(), processor_seconds()
    peaks: dict[int, int] = {}
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen([sys.executable, "-m", "rlsf", *arguments], stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                for one in (process.pid, *(child.pid for child in psutil.Process(process.pid).children())):
                    peaks[one] = max(peaks.get(one, 0), resident_peak(one))
            time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"rlsf {' '.join(arguments)} failed:\n{(folder / 'output.txt').read_text()[-2000:]}")
    main = peaks.pop(process.pid)
    return {
        "seconds": time.monotonic() - started,
        "processor_seconds": processor_seconds() - used,
        "main_peak_bytes": main,
        "worker_peak_bytes": max(peaks.values(), default=0),
    }


def processor_seconds() -> float:
    """What the commands so far took of all cores, workers included; it depends little on what else the machine does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def resident_peak(process: int) -> int:
    """The largest resident set of a process so far, in bytes; what it is now where the system does not say (macOS)."""
    status = Path(f"/proc/{process}/status")
    if sys.platform != "linux":
        return psutil.Process(process).memory_info().rss
    try:
        lines = status.read_text().splitlines()
    except OSError:  # it has just ended
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def streamed(folder: Path, count: int) -> dict[str, Any]:
    """What one size takes: sampling, ranking, and sampling again what is there already."""
    folder.mkdir()
    write_model(folder / "model")
    write_prompts(folder / "prompts.jsonl", count)
    (folder / "recipe.yaml").write_text(json.dumps(SETTINGS))  # JSON is YAML
    run = folder / "run"
    sample = ["sample", "--config", str(folder / "recipe.yaml"), "--model", str(folder / "model")]
    sample += ["--prompts", str(folder / "prompts.jsonl"), "--output", str(run)]
    stages = {
        "sample": measure(*sample, folder=folder),
        "rank": measure("rank", str(run), folder=folder),
        "resume": measure(*sample, "--resume", folder=folder),
    }
    counts = {
        stage: json.loads((run / place / "round-1" / "manifest.json").read_text())["counts"]
        for stage, place in (("sample", "traces"), ("rank", "preferences"))
    }
    return {
        "prompts": count,
        "traces": counts["sample"]["traces"],
        "pairs": counts["rank"]["pairs"],
        **stages,
    }


def ratios(few: Mapping[str, Any], many: Mapping[str, Any]) -> dict[str, float]:
    """By stage and process, the peak of many prompts over that of few."""
    return {
        f"{stage}_{process}": many[stage][key] / few[stage][key]
        for stage in ("sample", "rank")
        for process, key in (("main", "main_peak_bytes"), ("worker", "worker_peak_bytes"))
        if few[stage][key]
    }


def main() -> None:
    """Measure both sizes; the smaller first."""
    arguments = options(__doc__.splitlines()[0]).parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as place:
        measured = [streamed(Path(place) / str(count), count) for count in (QUICK_SIZES if arguments.quick else SIZES)]
    found = ratios(*measured)
    show(
        f"rlsf sample and rank, {WORKERS} workers, {SETTINGS['sampling']['branches']} traces a prompt",
        ["prompts", "stage", "seconds", "CPU s", "rows/s", "main peak MB", "worker peak MB"],
        [
            [
                f"{row['prompts']:,}",
                stage,
                f"{row[stage]['seconds']:.1f}",
                f"{row[stage]['processor_seconds']:.1f}",
                f"{row[rows] / row[stage]['seconds']:.0f}",
                f"{row[stage]['main_peak_bytes'] / 1e6:.0f}",
                f"{row[stage]['worker_peak_bytes'] / 1e6:.0f}",
            ]
            for row in measured
            for stage, rows in (("sample", "traces"), ("rank", "traces"), ("resume", "traces"))
        ],
    )
    show("peak of many over peak of few", list(found), [[f"{ratio:.3f}" for ratio in found.values()]])
    write_json(arguments.json, {"quick": arguments.quick, "sizes": measured, "ratios": found})


if __name__ == "__main__":
    main()
