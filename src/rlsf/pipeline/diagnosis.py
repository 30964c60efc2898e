"""What this machine and a model are to rlsf: versions, devices, which code computes what, and what is amiss."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Iterator
from typing import Any

import psutil
import torch
from packaging.requirements import Requirement

from rlsf.linear import onednn_verdict
from rlsf.models import ModelConfig
from rlsf.pipeline.environment import describe_environment
from rlsf.pipeline.finding import Complaint, Fact, Finding
from rlsf.pipeline.model_diagnosis import model_findings
from rlsf.tokenstats.backend import VARIABLE, survey

#: Packages worth a look, in this order.
_SHOWN = ("rlsf", "torch", "transformers", "trl", "accelerate", "peft", "triton", "vllm")
#: What of a processor decides how fast products are, by PyTorch's name for it.
_ABILITIES = {
    "avx2": "AVX2",
    "avx512_f": "AVX-512",
    "avx512_bf16": "AVX-512 BF16",
    "amx_bf16": "AMX BF16",
    "sve": "SVE",
    "bf16": "BF16",
}
#: The backend that should be in use on a kind of device, and how to get it.
_FASTEST = {
    "cpu": ("compiled", "install g++, or name a C++ compiler in the variable CXX"),
    "cuda": ("triton", "install triton"),
}


def diagnose(config: ModelConfig | None = None) -> list[list[Finding]]:
    """Look at the machine, and at a model where one is given: it is loaded and tried on a few tokens.

    In groups that belong together. Raises as loading the model does.
    """
    devices = [torch.device("cpu"), *(torch.device("cuda", number) for number in range(torch.cuda.device_count()))]
    groups = [list(_machine(describe_environment(), devices)), list(_computing(devices))]
    if config is not None:
        groups.append(list(model_findings(config)))
    return groups


def _machine(environment: dict[str, Any], devices: list[torch.device]) -> Iterator[Finding]:
    packages = environment["packages"]
    known = [f"{name}=={packages[name]}" if name in packages else f"{name}: none" for name in _SHOWN]
    yield Fact("versions", ", ".join([f"python=={environment['python']}", *known]))
    yield from _unmet_requirements()
    abilities = [name for key, name in _ABILITIES.items() if torch.cpu.get_capabilities().get(key)]
    cores, threads = environment["cores"], torch.get_num_threads()
    yield Fact("processor", ", ".join([environment["processor"], f"{cores} cores", f"{threads} used", *abilities]))
    if threads < cores:
        said = " and OMP_NUM_THREADS is set" if "OMP_NUM_THREADS" in os.environ else ""
        yield Complaint(f"PyTorch uses {threads} of {cores} cores{said}: set OMP_NUM_THREADS={cores}")
    free = psutil.virtual_memory().available / 2**30
    yield Fact("memory", f"{free:.1f} of {environment['memory_gib']:.1f} GiB free")
    for device in devices[1:]:
        properties, (unused, _) = torch.cuda.get_device_properties(device), torch.cuda.mem_get_info(device)
        yield Fact(
            str(device),
            f"{properties.name}, {unused / 2**30:.1f} of {properties.total_memory / 2**30:.1f} GiB free,"
            f" compute capability {properties.major}.{properties.minor}",
        )
    if len(devices) == 1:
        yield Fact("cuda", "no device")
        if shutil.which("nvidia-smi") and torch.version.cuda is None:
            yield Complaint(
                f"an NVIDIA driver is installed, and torch {packages['torch']} cannot use it: install a build of torch"
                " with CUDA"
            )


def _unmet_requirements() -> Iterator[Complaint]:
    for line in importlib.metadata.requires("rlsf") or ():
        needed = Requirement(line)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            found = importlib.metadata.version(needed.name)
        except importlib.metadata.PackageNotFoundError:
            found = "missing"
        if found == "missing" or not needed.specifier.contains(found, prereleases=True):
            remedy = f"pip install '{needed.name}{needed.specifier}'"
            yield Complaint(f"{needed.name} {found}, and rlsf needs {needed.specifier}: {remedy}")


def _computing(devices: list[torch.device]) -> Iterator[Finding]:
    faster, reason = onednn_verdict()
    yield Fact("linear layers", f"float32 on the CPU by {'oneDNN' if faster else 'PyTorch as usual'}: {reason}")
    wanted = os.environ.get(VARIABLE)
    for device in devices:
        # What models are loaded in by default: see rlsf.models.device.
        reports = survey(device, torch.float32 if device.type == "cpu" else torch.bfloat16)
        name = f"statistics, {device.type}"
        for report in reports:
            state = "in use" if report.chosen else "usable" if report.usable else "not here"
            yield Fact(name, f"{report.name:9} {state:9} {report.reason}")
            name = ""
        chosen = next(report.name for report in reports if report.chosen)
        fastest, remedy = _FASTEST[device.type]
        if wanted is not None and wanted != chosen:
            yield Complaint(f"{VARIABLE}={wanted} cannot be used on {device}: {chosen} is; unset it")
        elif wanted is None and chosen != fastest:
            reason = next(report.reason for report in reports if report.name == fastest)
            yield Complaint(f"token statistics on {device} by {chosen}, slower than by {fastest} ({reason}): {remedy}")
