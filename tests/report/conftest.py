from __future__ import annotations

import pytest
from report_example import example_inputs, without_training

from rlsf.report.inputs import ReportInputs


@pytest.fixture(scope="session")
def inputs() -> ReportInputs:
    return example_inputs()


@pytest.fixture(scope="session")
def measured_only(inputs: ReportInputs) -> ReportInputs:
    return without_training(inputs)
