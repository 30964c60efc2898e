"""Runs that sample the same traces share them: one run's finished sampling serves another."""

from __future__ import annotations

import shutil

from rlsf.files import atomic_folder
from rlsf.pipeline.folder import RunFolder
from rlsf.pipeline.manifest import MANIFEST


def borrow_traces(lender: RunFolder, borrower: RunFolder) -> None:
    """Copy the finished sampling stages that do not depend on signal, ranking or training.

    Those are the traces of the starting model, for learning and for the evaluation before. The borrowing run checks
    their manifests against its own recipe, as it would check its own, and refuses traces made from anything else.
    """
    for lent, wanted in (
        (lender.evaluation("before") / "traces", borrower.evaluation("before") / "traces"),
        (lender.traces(1), borrower.traces(1)),
    ):
        if (lent / MANIFEST).exists() and not wanted.exists():
            wanted.parent.mkdir(parents=True, exist_ok=True)
            with atomic_folder(wanted) as partial:
                shutil.copytree(lent, partial, dirs_exist_ok=True)
