"""Shared by all tests: no network, few threads, and a small labelled problem set with the bundled model."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# A shell that starts the tests in the background makes them ignore Ctrl-C, and with them every program that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# A test is right or wrong, not fast or slow: machines that do other work beside it would fail it.
settings.register_profile("repository", deadline=None)
settings.load_profile("repository")


@pytest.fixture(scope="session", autouse=True)
def _datasets_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what `datasets` caches away from the user's home and from other test processes."""
    os.environ["HF_DATASETS_CACHE"] = str(tmp_path_factory.mktemp("datasets-cache"))


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A few questions to learn from and a few labelled ones, of the bundled model's kind."""
    from rlsf.demo import write_data

    return write_data(tmp_path_factory.mktemp("demo-data"), self_training=24, test=16, seed=5)
