"""A Ray cluster of several nodes on this machine, quiet and small, and the means to take it apart."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def kill_node(cluster: Any, node_id: str) -> None:
    """SIGKILL for a node, with all that runs on it."""
    (node,) = (node for node in cluster.list_all_nodes() if node.node_id == node_id)
    cluster.remove_node(node, allow_graceful=False)


@dataclass(frozen=True, slots=True)
class Misfortune:
    """``function`` of numbered shards, where one shard ends its worker and one waits until its node is gone.

    Each happens once, to work that is under way: ``folder`` holds what has happened. From ``node_at`` on, the node
    ``spared`` makes nothing before another one is doomed, so that none is late for it.
    """

    function: Callable[[Any], Any]
    folder: Path
    spared: str
    worker_at: int = 3
    node_at: int = 8

    def __call__(self, numbered: tuple[int, Any]) -> Any:
        number, shard = numbered
        if number == self.worker_at and self._first("worker", ""):
            os.kill(os.getpid(), signal.SIGKILL)
        if number >= self.node_at:
            here = self._node()
            if here != self.spared and self._first("node", here):
                time.sleep(600)
            while not (self.folder / "node").exists():
                time.sleep(0.02)
        return self.function(shard)

    def _node(self) -> str:
        import ray

        return ray.get_runtime_context().get_node_id()

    def _first(self, name: str, text: str) -> bool:
        """Whether this is the first to say ``name``; ``text`` is there as soon as the file is."""
        written = self.folder / f"{name}.{os.getpid()}"
        written.write_text(text)
        try:
            os.link(written, self.folder / name)
        except FileExistsError:
            return False
        return True


@contextmanager
def killing_the_doomed_node(cluster: Any, folder: Path) -> Iterator[None]:
    """Kill the node that ``Misfortune`` names in ``folder``, as soon as it does."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            if (folder / "node").exists():
                return kill_node(cluster, (folder / "node").read_text())

    with ThreadPoolExecutor(1) as watching:
        watched = watching.submit(watch)
        try:
            yield
        finally:
            over.set()
            watched.result()
