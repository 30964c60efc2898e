"""A comparison: every method with every seed on the same questions, and what they are worth side by side."""

from __future__ import annotations

from pathlib import Path

from rlsf.errors import ResourceError
from rlsf.evaluation.comparing import compare_methods
from rlsf.evaluation.comparison_schema import Comparison
from rlsf.files import write_json, write_text
from rlsf.models.config import ModelConfig
from rlsf.pipeline.comparing_display import ComparisonDisplay
from rlsf.pipeline.comparing_folder import LOG, ComparisonFolder, read_ended
from rlsf.pipeline.comparing_jobs import jobs_of
from rlsf.pipeline.comparing_outcomes import asked, method_outcomes
from rlsf.pipeline.comparing_plan import BEFORE, Plan
from rlsf.pipeline.comparing_processes import RUN_LIBRARIES, work_off
from rlsf.pipeline.context import Run
from rlsf.pipeline.folder import RunFolder
from rlsf.report.comparison_page import write_comparison_page
from rlsf.report.comparison_table import markdown
from rlsf.sampling.pool import weight_bytes, worker_count
from rlsf.sampling.worker import load_libraries_ahead

#: Weights up to this size are trained on one thread, several runs side by side; larger ones keep all cores busy.
_ONE_THREAD = 256 * 2**20
#: Weights, gradients and two moments of the optimiser in 32 bits, and the model at the start.
_COPIES = 5


def compare(
    plan: Plan, path: Path, *, resume: bool, workers: int | None = None, display: ComparisonDisplay | None = None
) -> Comparison:
    """Do all runs of ``plan`` in a folder, and write ``comparison.html``, ``comparison.md`` and ``comparison.json``.

    ``workers``: runs at a time, by default as many as the machine has room for; figures do not depend on it. Runs that
    fail are rows with their reasons. Raises ``ResourceError`` where all of them failed, and ``InputError`` for what no
    run could use, before any work.
    """
    load_libraries_ahead(RUN_LIBRARIES)
    look_ahead(plan)
    threads = threads_of(plan.start.model)
    folder = ComparisonFolder(path)
    folder.open(plan, resume=resume)
    try:
        with display or ComparisonDisplay() as shown:
            count = workers or worker_count_of(plan.start.model, threads)
            ended = work_off(jobs_of(plan, folder), count, threads, shown, lambda job: read_ended(job.folder))
        methods = method_outcomes(plan, folder, ended)
        failed = [method for method in methods if not method.outcomes]
        if methods[0] in failed or len(failed) >= len(methods) - 1:
            first = next(reason for method in failed for reason in method.failed.values())
            raise ResourceError(f"no run to compare: {first}; each run of {path} has a {LOG}")
        comparison = compare_methods(methods, plan.start.evaluation, seed=0, asked=asked(plan, path.name))
        write_comparison_page(comparison, folder.page_file)
        write_text(folder.table_file, markdown(comparison))
        write_json(folder.figures_file, comparison.model_dump(mode="json"))
        return comparison
    finally:
        folder.close()


def look_ahead(plan: Plan) -> None:
    """Raise ``InputError`` for a model and for questions that no run could use."""
    from rlsf.pipeline.preflight import preflight

    prompts = next(iter(plan.methods.values())).prompts
    preflight(Run(plan.start.model_copy(update={"prompts": prompts}), RunFolder(Path(BEFORE))), trains=True)


def threads_of(model: ModelConfig) -> int | None:
    """Threads of a run: one for a small model on the processor, else as many as there are.

    The model alone decides, not how many runs there are at a time: another number of threads may round differently.
    """
    return 1 if _device(model) == "cpu" and weight_bytes(model) <= _ONE_THREAD else None


def worker_count_of(model: ModelConfig, threads: int | None) -> int:
    """Runs at a time: one a core for small models on the processor, as memory allows, and one otherwise."""
    if threads is None:
        return 1
    return worker_count("auto", _device(model), _COPIES * weight_bytes(model))


def _device(model: ModelConfig) -> str:
    from rlsf.models import resolve_device

    return "" if model.batches_itself else resolve_device(model.device).type
