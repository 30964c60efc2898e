"""Runs whose model is on a server, from the command line: lost half-way and resumed, measured, refused."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from completion_server import CompletionServer, ServedPolicy

from rlsf.cli.app import USER_ERROR, execute
from rlsf.demo import MODEL_DIR
from rlsf.files import read_json

NOWHERE = "http://127.0.0.1:9/v1"
SMALL = (
    *("--recipe", "rlsf-trace", "--sampling.branches", "2", "--sampling.max_new_tokens", "48"),
    *("--sampling.shard_prompts", "2", "--model.server.backoff", "0", "--model.server.retries", "1"),
)
FLOATS = ["logprob", "top1_logprob", "top2_logprob", "logsumexp", "entropy", "mean_logit"]


@pytest.fixture(scope="module")
def policy() -> ServedPolicy:
    return ServedPolicy(MODEL_DIR)


@pytest.fixture
def sample(demo_data: tuple[Path, Path]) -> Callable[..., int]:
    """A function that samples for four questions in shards of two, and returns the exit code."""
    arguments = ("sample", "--model", str(MODEL_DIR), "--prompts", str(demo_data[0]), "--prompts.limit", "4", *SMALL)

    def run(url: str, folder: Path, *more: str) -> int:
        return execute([*arguments, "--model.server.url", url, "--output", str(folder), *more])

    return run


def traces(folder: Path) -> pa.Table:
    return pa.concat_tables(
        pq.read_table(path).replace_schema_metadata() for path in sorted(folder.glob("traces/round-1/part-*.parquet"))
    )


def test_a_server_that_dies_half_way_costs_no_finished_work(
    policy: ServedPolicy, sample: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = tmp_path / "address"
    script = Path(__file__).with_name("completion_server.py")
    # The first shard takes two requests for first tokens and four for the rest; the server dies in the second.
    server = subprocess.Popen([sys.executable, str(script), str(MODEL_DIR), str(address), "8"])
    try:
        deadline = time.monotonic() + 120
        while not address.exists() or not address.read_text():
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert sample(address.read_text(), tmp_path / "run") == USER_ERROR
    finally:
        server.kill()
        assert server.wait() != 0
    line = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rlsf: ")]
    assert len(line) == 1
    assert "does not answer" in line[0]
    assert "--resume" in line[0]
    kept = tmp_path / "run" / "traces" / "round-1" / "part-00000.parquet"
    finished = kept.stat().st_ino, kept.stat().st_mtime_ns
    assert not kept.with_name("part-00001.parquet").exists()
    with CompletionServer(policy) as healthy:
        assert sample(healthy.url, tmp_path / "run", "--resume") == 0
        assert len(healthy.bodies) == 6  # the second shard alone
        assert sample(healthy.url, tmp_path / "whole", "--model.server.concurrency", "1") == 0
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == finished
    assert traces(tmp_path / "run").num_rows == 8
    resumed, whole = traces(tmp_path / "run"), traces(tmp_path / "whole")
    assert resumed.drop_columns(FLOATS).equals(whole.drop_columns(FLOATS))
    for name in FLOATS:
        one, other = (table[name].combine_chunks().flatten().to_numpy() for table in (resumed, whole))
        np.testing.assert_allclose(one, other, atol=1e-4)  # two processes with other numbers of threads


def test_a_served_model_is_measured_and_its_key_is_kept_nowhere(
    policy: ServedPolicy, demo_data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_KEY", "a-key-of-mine")
    with CompletionServer(policy, key="a-key-of-mine", slow=True) as server:
        arguments = [
            *("eval", "--model", str(MODEL_DIR), "--data", str(demo_data[1]), "--evaluation_data.limit", "4", *SMALL),
            *("--evaluation.bootstrap", "100", "--model.server.url", server.url, "--output", str(tmp_path / "run")),
            *("--model.server.api_key_variable", "SERVER_KEY"),
        ]
        assert execute(arguments) == 0
        asked = len(server.bodies)
        assert asked == 4 * 3
        assert execute([*arguments, "--resume"]) == 0
        assert len(server.bodies) == asked
    assert read_json(tmp_path / "run" / "evaluation" / "summary.json")
    assert (tmp_path / "run" / "report.html").exists()
    for path in (tmp_path / "run").rglob("*"):
        assert path.is_dir() or b"a-key-of-mine" not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("command", "more", "said"),
    [
        ("sample", ("--signal", "self_certainty"), "signal=self_certainty needs logsumexp and mean_logit"),
        ("sample", ("--signal", "answer_entropy"), "use answer_disparity, answer_top_gap,"),
        ("sample", ("--recipe", "core-po"), "judge asks for probabilities that a server does not return"),
        ("run", ("--training.rounds", "2"), "2 rounds sample from the policy of the round before"),
        ("run", ("--recipe", "rlsf-online"), "online training samples from the policy"),
        ("run", ("--recipe", "rise-introspection", "--introspection.rounds", "1"), "introspection samples"),
        ("run", ("--eval-data", "DATA"), "the trained policy is measured on evaluation_data"),
        ("check", (), "measures what a model costs in this process"),
        ("sample", ("--model.server.url", "ftp://host/v1"), "begins with http:// or https://"),
        ("sample", ("--model.server.concurrency", "0"), "model.server.concurrency=0"),
        ("sample", (), "http://127.0.0.1:9/v1/models does not answer"),
    ],
)
def test_what_a_server_cannot_do_is_refused_before_any_work(
    demo_data: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    more: tuple[str, ...],
    said: str,
) -> None:
    output = () if command == "check" else ("--output", str(tmp_path / "run"))
    options = ("--model.server.url", NOWHERE, "--model.server.backoff", "0", "--model.server.retries", "1")
    more = tuple(str(demo_data[1]) if word == "DATA" else word for word in more)
    recipe = () if "--recipe" in more else ("--recipe", "rlsf-trace")
    arguments = [command, "--model", str(MODEL_DIR), "--prompts", str(demo_data[0]), *recipe, *options, *output, *more]
    assert execute(arguments) == USER_ERROR
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rlsf: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert not list(tmp_path.glob("run/traces/**/*.parquet"))
