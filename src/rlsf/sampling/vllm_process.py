"""vLLM's engine in a child process: started with a model or an adapter, ended for good."""

from __future__ import annotations

import gc
import multiprocessing
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rlsf.errors import InputError, ResourceError
from rlsf.models.config import ModelConfig
from rlsf.models.device import resolve_device, resolve_dtype
from rlsf.models.folder import ADAPTER_CONFIG, ModelFolder, find_base, find_model, one_line
from rlsf.models.loading import load_model
from rlsf.models.vllm_config import require_vllm
from rlsf.sampling.watching import Watcher

#: Set where the user has not: a clean start of the child, no reports to vLLM's makers, a quiet terminal.
_ENVIRONMENT = {
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}
#: Seconds to wait for a child that vLLM has killed.
_PATIENCE = 30.0
#: The ranks that vLLM reserves room for.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
#: What an adapter may say of itself where vLLM is to apply it as PEFT does; anything else is merged here.
_PLAIN = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian"),
    "use_rslora": (False, True),
    **dict.fromkeys(("use_dora", "lora_bias", "use_qalora", "fan_in_fan_out"), (False,)),
    **dict.fromkeys(("modules_to_save", "alpha_pattern", "rank_pattern", "layer_replication"), (None, {}, [])),
    **dict.fromkeys(("target_parameters", "trainable_token_indices", "exclude_modules"), (None, {}, [])),
}


class VllmProcess:
    """``vllm.LLM`` with the model of ``config``.

    A LoRA adapter is applied by vLLM over its base model; where vLLM cannot (DoRA, trained embeddings, ...), it is
    merged into weights in a temporary folder, which lives as long as the process. Raises ``InputError`` where vLLM is
    not installed or cannot load the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        require_vllm()
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self._exit = ExitStack()
        self._lora: Any = None
        self._llm: Any = None
        folder, others = find_model(config), set(multiprocessing.active_children())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self._llm = self._start(config, folder)
            except (RuntimeError, ValueError, OSError, TypeError, ImportError, LookupError, AssertionError) as error:
                self._exit.close()
                if isinstance(error, (InputError, ResourceError)):
                    raise
                raise InputError(
                    f"vLLM cannot load {folder.name} ({one_line(error)}): see what it says above, change model.vllm, or"
                    " use model.engine=transformers"
                ) from error
        self._children = set(multiprocessing.active_children()) - others
        # vLLM's child would outlive this process, and keep its memory.
        self._watcher = Watcher(child.pid for child in self._children if child.pid is not None)

    def _start(self, config: ModelConfig, folder: ModelFolder) -> Any:
        import vllm  # pyright: ignore[reportMissingImports]

        device = _device(config)
        dtype = resolve_dtype(config.dtype, device, for_training=False)
        base = find_base(folder, config) if folder.is_adapter else folder
        rank = lora_rank(folder) if folder.is_adapter else None
        options = dict(config.vllm.engine_arguments)
        if rank is not None:
            from vllm.lora.request import LoRARequest  # pyright: ignore[reportMissingImports]

            options |= {"enable_lora": True, "max_lora_rank": rank}
            self._lora = LoRARequest("policy", 1, str(folder.path))
        elif folder.is_adapter:
            base = ModelFolder(folder.name, self._merged(config))
        else:
            folder.require_model()
        if config.vllm.cache_gib is not None:
            options["kv_cache_memory_bytes"] = int(config.vllm.cache_gib * 2**30)
        tokenizer = folder if folder.has_tokenizer else find_base(folder, config)
        return vllm.LLM(
            model=str(base.path),
            tokenizer=str(tokenizer.path),
            dtype="auto" if dtype is None else str(dtype).removeprefix("torch."),
            trust_remote_code=config.trust_remote_code,
            max_model_len=config.vllm.max_model_len,
            gpu_memory_utilization=config.vllm.gpu_memory_utilization,
            enforce_eager=config.vllm.enforce_eager,
            generation_config="vllm",  # what lies beside the weights decides nothing
            logprobs_mode="raw_logprobs",
            max_logprobs=-1,  # as many first tokens as there are branches
            seed=0,
            use_tqdm_on_load=False,
            **{"enable_prefix_caching": True, "disable_log_stats": True, **options},
        )

    def _merged(self, config: ModelConfig) -> Path:
        from transformers.utils import logging

        folder = self._exit.enter_context(tempfile.TemporaryDirectory(prefix="rlsf-merged-"))
        logging.disable_progress_bar()
        load_model(config.by_transformers.model_copy(update={"device": "cpu"})).save_pretrained(folder)
        return Path(folder)

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and completion together."""
        return int(self._llm.llm_engine.model_config.max_model_len)

    def generate(self, prompts: Sequence[Sequence[int]], parameters: Sequence[Mapping[str, Any]]) -> list[Any]:
        """The completion (``vllm.CompletionOutput``) of each prompt, by the arguments of its ``SamplingParams``.

        Raises ``ResourceError`` where the child dies.
        """
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]
        from vllm.v1.engine.exceptions import EngineDeadError  # pyright: ignore[reportMissingImports]

        try:
            outputs = self._llm.generate(
                [{"prompt_token_ids": list(ids)} for ids in prompts],
                [SamplingParams(**each) for each in parameters],
                use_tqdm=False,
                lora_request=self._lora,
            )
        except EngineDeadError as error:
            raise ResourceError(
                f"vLLM's process has ended ({one_line(error)}; out of memory?): lower model.vllm.gpu_memory_utilization"
                " or model.vllm.cache_gib and resume"
            ) from error
        return [output.outputs[0] for output in outputs]

    def close(self) -> None:
        """End the child process and wait for it; temporary weights go with it."""
        if self._llm is None:
            return
        self._llm.llm_engine.engine_core.shutdown()
        self._watcher.close()
        for child in self._children:
            child.join(_PATIENCE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # it leaves a socket to the collector
            self._llm = None
            gc.collect()
        self._exit.close()


def _device(config: ModelConfig) -> Any:
    """The device that this build of vLLM computes on; raises ``InputError`` where another one is asked for."""
    from vllm.platforms import current_platform  # pyright: ignore[reportMissingImports]

    kind = current_platform.device_type
    if config.device not in ("auto", kind):
        remedy = "choose a GPU with CUDA_VISIBLE_DEVICES" if config.device.startswith(f"{kind}:") else f"use {kind}"
        raise InputError(f"model.device={config.device}: vLLM computes on {kind} here: leave it out, or {remedy}")
    return resolve_device(kind)


def lora_rank(adapter: ModelFolder) -> int | None:
    """The rank to make room for where vLLM can apply the adapter, None where it has to be merged."""
    said = adapter.json(ADAPTER_CONFIG)
    plain = all(said[name] in allowed for name, allowed in _PLAIN.items() if name in said)
    targets, rank = said.get("target_modules"), said.get("r")
    if not plain or not isinstance(targets, list) or not isinstance(rank, int):
        return None
    if any(target.rpartition(".")[2] in ("embed_tokens", "lm_head", "wte") for target in targets):
        return None
    return next((room for room in _RANKS if rank <= room), None)
