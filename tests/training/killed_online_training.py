"""An online training that is killed again and again.

usage: killed_online_training.py FOLDER SEED KILLS
"""

from __future__ import annotations

import sys
from pathlib import Path

from killed_children import left_alone_and_killed
from online_runs import KINDS, train

if __name__ == "__main__":
    left_alone_and_killed(
        lambda folder: train(folder, resume=True, **{**KINDS["lora"], "epochs": 4.0, "save_every": 1}),
        Path(sys.argv[1]),
        int(sys.argv[2]),
        int(sys.argv[3]),
    )
