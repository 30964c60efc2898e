"""A Ray cluster of several nodes on this machine, quiet and small, and the means to take it apart."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

#: Bytes of each node's object store: the least that Ray takes.
_STORE_BYTES = 80 * 2**20


@contextmanager
def nodes_of_one_cpu(count: int) -> Iterator[Any]:
    """A cluster of ``count`` nodes (``ray.cluster_utils.Cluster``), whose workers run in them."""
    # Workers on a busy machine are else the last to get any of it.
    os.environ.update(RAY_worker_niceness="0")
    # Functions of the tests are found by name.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    from rlsf.sampling.ray_cluster import import_ray

    ray = import_ray()
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        for _ in range(count - 1):
            cluster.add_node(num_cpus=1, object_store_memory=_STORE_BYTES)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def raylet(node: Any) -> psutil.Process:
    """The process that a node lives and dies with."""
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


def kill_a_worker(cluster: Any) -> None:
    """SIGKILL for one process that is making a shard."""
    for node in cluster.list_all_nodes():
        for process in raylet(node).children(recursive=True):
            if process.is_running() and "RayWorker.work" in " ".join(process.cmdline()):
                process.send_signal(signal.SIGKILL)
                return
    raise AssertionError("no worker is at work")


def kill_a_node(cluster: Any) -> None:
    """SIGKILL for a node that is not the head, with all that runs on it."""
    cluster.remove_node(sorted(cluster.worker_nodes, key=lambda node: node.node_id)[0], allow_graceful=False)
