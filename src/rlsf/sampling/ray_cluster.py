"""A Ray cluster: reached or started quietly, and how many workers it has room for."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from rlsf.errors import InputError, ResourceError, shortened
from rlsf.models.config import ModelConfig
from rlsf.sampling.pool import PROCESS_BYTES, weight_bytes

#: Object store of a cluster that is started here, for each worker: the largest shard that is scored, and its copy.
_STORE_BYTES = 2**28
#: Seconds until an address that does not answer is given up.
_PATIENCE = 10.0


def require_ray() -> None:
    """Raise ``InputError`` where Ray is not installed."""
    if find_spec("ray") is None:
        raise InputError("--executor ray, and Ray is not installed: pip install 'rlsf[ray]', or use --executor local")


def import_ray() -> Any:
    """Ray, which reports no usage from here on."""
    require_ray()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Else a worker without a GPU warns of a change that does not concern it.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    return ray


def _say_nothing(*_: Any, **__: Any) -> None:
    pass


@dataclass(frozen=True, slots=True)
class WorkerNeeds:
    """What one worker takes of its node: ``memory`` in bytes."""

    cpus: int
    gpus: int
    memory: int

    def __str__(self) -> str:
        gpus = f", {self.gpus} GPU" if self.gpus else ""
        return f"{self.cpus} CPU{gpus} and {self.memory / 2**30:.1f} GiB"

    def fit_into(self, resources: dict[str, float]) -> int:
        """How many such workers a node of these resources holds."""
        room = [resources.get("CPU", 0) // self.cpus, resources.get("memory", 0) // self.memory]
        if self.gpus:
            room.append(resources.get("GPU", 0) // self.gpus)
        return int(min(room))


class RayCluster:
    """The connection to a cluster; one that is started here ends with it, one that was there stays.

    ``address``: HOST:PORT of the head, ``auto`` for the cluster that this machine belongs to, ``local`` to start one;
    None: ``RAY_ADDRESS`` of the environment, else ``local``.
    """

    def __init__(self, address: str | None = None) -> None:
        self.address = address or os.environ.get("RAY_ADDRESS") or "local"
        self._connected_here = False

    @property
    def is_local(self) -> bool:
        """Whether the cluster is this machine alone, started for the purpose."""
        return self.address == "local"

    def connect(self, workers: int | None) -> None:
        """Reach the cluster, or start one of ``workers`` CPUs (None: of all cores); no more than once.

        A process that is connected already stays so. Raises ``InputError`` where there is no cluster.
        """
        ray = import_ray()
        if ray.is_initialized():
            return
        # Ray would print what becomes of workers, which the pool says in its own words.
        ray._private.worker.print_to_stdstream = _say_nothing
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.is_local:
            # Ray's own default lets its workers yield to everything else; local processes do not either.
            os.environ.setdefault("RAY_worker_niceness", "0")
            store = _STORE_BYTES * (workers or os.cpu_count() or 1)
            quiet |= {"num_cpus": workers, "object_store_memory": store, "include_dashboard": False}
        else:
            self._require_answer()
        try:
            ray.init(address=self.address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            verb = "start" if self.is_local else "use"
            raise InputError(f"--ray-address {self.address}: cannot {verb} it: {shortened(str(error))}") from error
        self._connected_here = True

    def _require_answer(self) -> None:
        """Raise ``InputError`` where nothing answers at the address: Ray would try for minutes and end the process."""
        if self.address == "auto":
            return
        host, _, port = self.address.rpartition(":")
        if "://" in self.address or not host or not port.isdigit():
            raise InputError(
                f"--ray-address {self.address}: say HOST:PORT of the head, auto or local; this command itself runs on a"
                " machine of the cluster"
            )
        try:
            with contextlib.closing(socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE)):
                pass
        except (OSError, OverflowError) as error:
            raise InputError(
                f"--ray-address {self.address}: no cluster answers there ({error}): start one with `ray start --head`,"
                " or leave the option out to use this machine"
            ) from error

    def needs(self, model: ModelConfig) -> WorkerNeeds:
        """What a worker with ``model`` takes: a GPU where the cluster has some and the model may use one."""
        gpus = sum(int(resources.get("GPU", 0)) for resources in self._nodes())
        if model.server is not None:
            return WorkerNeeds(1, 0, PROCESS_BYTES)
        wants_gpu = model.device.startswith("cuda") or (model.device == "auto" and gpus > 0)
        if model.device.startswith("cuda") and not gpus and not self.is_local:
            raise InputError(f"model.device={model.device}, and no node of the cluster has a GPU: use auto or cpu")
        several = int(model.vllm.engine_arguments.get("tensor_parallel_size", 1)) if model.engine == "vllm" else 1
        return WorkerNeeds(1, several if wants_gpu else 0, PROCESS_BYTES + weight_bytes(model))

    def room_for(self, needs: WorkerNeeds) -> int:
        """How many workers the nodes hold that are there now."""
        return sum(needs.fit_into(resources) for resources in self._nodes())

    def require_room(self, needs: WorkerNeeds) -> int:
        """The same; raises ``ResourceError`` where there is room for none."""
        room = self.room_for(needs)
        if not room:
            raise ResourceError(f"no node of the cluster has {needs}, which one worker takes: add a larger node")
        return room

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in import_ray().nodes() if node["Alive"]]

    def close(self) -> None:
        """Leave the cluster, and end it if it was started here."""
        if self._connected_here:
            import_ray().shutdown()
            self._connected_here = False
