"""Float32 linear layers by oneDNN against PyTorch's own way: time and error.

python benchmarks/linear.py [--quick] [--json FILE]

Shapes are those of the bundled model's and of a Qwen2-0.5B-shaped model's layers, at the numbers of rows met while
sampling. Errors are the largest against float64, of products with numbers of size one and weights of size 1/20.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear

from _shared import options, show, write_json
from rlsf.linear import onednn_is_faster, onednn_linear

#: (rows, inputs, outputs)
SHAPES = ((80, 160, 448), (640, 160, 160), (640, 448, 160), (640, 160, 651), (10, 896, 4864), (160, 896, 4864))
VOCABULARY = (40, 896, 151_936)


def fastest(product: Callable[[], Tensor], seconds: float) -> float:
    """The shortest time of one call, in microseconds, over so many seconds."""
    product()
    times, ended = [], time.perf_counter() + seconds
    while time.perf_counter() < ended:
        started = time.perf_counter()
        product()
        times.append(time.perf_counter() - started)
    return 1e6 * min(times)


@torch.no_grad()
def compare(shape: tuple[int, int, int], seconds: float) -> dict[str, float]:
    """Both ways on one shape."""
    rows, width, outputs = shape
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(rows, 1, width, generator=generator)
    weight = torch.randn(outputs, width, generator=generator) / 20
    exact = inputs.double() @ weight.double().T
    usual, ours = (
        fastest(lambda: linear(inputs, weight), seconds),
        fastest(lambda: onednn_linear(inputs, weight), seconds),
    )
    return {
        "usual_microseconds": usual,
        "onednn_microseconds": ours,
        "ratio": usual / ours,
        "usual_error": (linear(inputs, weight) - exact).abs().max().item(),
        "onednn_error": (onednn_linear(inputs, weight) - exact).abs().max().item(),
    }


def main() -> None:
    """One row a shape."""
    arguments = options(__doc__.splitlines()[0]).parse_args()
    shapes = SHAPES if arguments.quick else (*SHAPES, VOCABULARY)
    figures = {" x ".join(map(str, shape)): compare(shape, 0.3 if arguments.quick else 2.0) for shape in shapes}
    show(
        f"{torch.get_num_threads()} threads; oneDNN is {'' if onednn_is_faster() else 'not '}chosen on this processor",
        ["rows x inputs x outputs", "usual, µs", "oneDNN, µs", "ratio", "usual error", "oneDNN error"],
        [
            [
                name,
                f"{row['usual_microseconds']:.0f}",
                f"{row['onednn_microseconds']:.0f}",
                f"{row['ratio']:.2f}",
                f"{row['usual_error']:.1e}",
                f"{row['onednn_error']:.1e}",
            ]
            for name, row in figures.items()
        ],
    )
    write_json(arguments.json, {"quick": arguments.quick, "chosen": onednn_is_faster(), "shapes": figures})


if __name__ == "__main__":
    main()
