"""A page in a headless Chromium: its DOM and console, what a script finds on it, and how it looks."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

#: ``pytestmark`` of a file that opens pages.
needs_chromium = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH"),
]


def browse(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Chromium's DOM dump on standard output, its console on standard error."""
    assert CHROMIUM is not None
    return subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"),
            *("--enable-logging=stderr", f"--user-data-dir={page.parent / 'profile'}", *options, page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "HOME": str(page.parent)},
    )


def console(run: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in run.stderr.splitlines() if "CONSOLE" in line]


def measured(page: Path, width: int, script: str) -> str:
    """What a script finds on the page in a frame of this width; the page itself allows none."""
    frame = page.with_name(f"frame-{width}.html")
    policy, style = page.read_text(encoding="utf-8").split("<meta http-equiv=", 1)
    page.with_name("open.html").write_text(f"{policy}<meta data-was={style}", encoding="utf-8")
    frame.write_text(
        f'<iframe src="open.html" style="width:{width}px;height:900px"></iframe><p id="found"></p><script>'
        f"document.querySelector('iframe').onload = event => {{ const page = event.target.contentDocument;"
        f" document.getElementById('found').textContent = 'found ' + ({script}); }}</script>",
        encoding="utf-8",
    )
    run = browse(frame, "--dump-dom", "--allow-file-access-from-files", "--virtual-time-budget=3000")
    return run.stdout.split('id="found">')[1].split("</p>")[0]


def screenshot(page: Path, width: int, scheme: str) -> np.ndarray:
    """Pixels [height, width, 3] in [0, 1] of a page that nothing complains about, on the ground of its theme."""
    import matplotlib.image

    picture = page.with_suffix(f".{scheme}.png")
    preference = {"dark": 0, "light": 1}[scheme]
    theme = f"--blink-settings=preferredColorScheme={preference}"
    run = browse(page, f"--screenshot={picture}", f"--window-size={width},1600", theme)
    assert console(run) == []
    pixels = matplotlib.image.imread(picture)[..., :3]
    ground = pixels[0, 0].mean()
    assert ground < 0.15 if scheme == "dark" else ground > 0.9
    # There is ink, and it is no wall of it.
    assert 0.02 < (abs(pixels - pixels[0, 0]).max(axis=-1) > 0.2).mean() < 0.5
    return pixels
