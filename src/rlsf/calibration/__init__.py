"""From a signal's confidence to a probability of being right, and to a threshold with a guarantee.

Plain numbers in a JSON file beside the model; loading and using them needs numpy and pydantic alone.
"""

from rlsf.calibration.calibration import Calibration, Figures
from rlsf.calibration.calibrators import (
    Calibrator,
    IsotonicCalibrator,
    Method,
    PlattCalibrator,
    TemperatureCalibrator,
)
from rlsf.calibration.fitting import fit_calibrator, out_of_fold
from rlsf.calibration.making import make_calibration
from rlsf.calibration.threshold import Threshold, fit_threshold
from rlsf.models.folder import CALIBRATION

__all__ = [
    "CALIBRATION",
    "Calibration",
    "Calibrator",
    "Figures",
    "IsotonicCalibrator",
    "Method",
    "PlattCalibrator",
    "TemperatureCalibrator",
    "Threshold",
    "fit_calibrator",
    "fit_threshold",
    "make_calibration",
    "out_of_fold",
]
