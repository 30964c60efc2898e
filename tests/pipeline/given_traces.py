"""Traces that exist already, as rlsf or another engine wrote them, and scoring them with the bundled model."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlsf.demo import MODEL_DIR
from rlsf.pipeline.manifest import Manifest
from rlsf.pipeline.sampling import read_traces
from rlsf.pipeline.scoring import score_stage
from rlsf.pipeline.scoring_config import scoring_config
from rlsf.traces import Trace


def score(traces: Path, output: Path, *, resume: bool = False, model: Path = MODEL_DIR, **said: Any) -> Manifest:
    config = scoring_config({}, {"traces": str(traces), **said}, {"model": {"path": str(model)}})
    return score_stage(config, output, resume=resume)


def all_traces(folder: Path) -> list[Trace]:
    return list(itertools.chain.from_iterable(read_traces(folder)))


def lines(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def vllm_records(traces: Sequence[Trace], tokenizer: Any) -> list[dict[str, Any]]:
    """The same traces as vLLM would have written them."""
    return [
        {
            "request_id": prompt_id,
            "prompt": tokenizer.decode(group[0].prompt_token_ids, skip_special_tokens=True),
            "outputs": [
                {
                    "text": trace.text,
                    "token_ids": trace.token_ids.tolist(),
                    "finish_reason": "length" if trace.truncated else "stop",
                }
                for trace in group
            ],
        }
        for prompt_id, group in ((key, list(run)) for key, run in itertools.groupby(traces, lambda t: t.prompt_id))
    ]
