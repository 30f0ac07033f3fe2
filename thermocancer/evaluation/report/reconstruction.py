"""The figure of inputs beside what an autoencoder makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.files import written_aside

Images = npt.NDArray[np.float32]
ERROR_SCALE = 0.2
"""The error row is black at zero and white at this difference."""


def draw_reconstructions(path: Path, truth: Images, found: Images, titles: list[str], headline: str) -> None:
    """Draw three rows: inputs, reconstructions, absolute error. Images (n, h, w, 1 or 3) in [0, 1].

    The same arrays give the same bytes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = len(truth)
    height, width = truth.shape[1:3]
    figure = Figure(figsize=(2.2 * columns + 0.6, 2.2 * 3 * height / width + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_2d(figure.subplots(3, columns, squeeze=False))
    error = np.abs(truth - found).mean(axis=-1, keepdims=True) / ERROR_SCALE
    for row, (name, images) in enumerate({"input": truth, "reconstruction": found, "error": error}.items()):
        for column in range(columns):
            _show(axes[row, column], images[column])
            if row == 0:
                axes[row, column].set_title(titles[column], fontsize=8)
        axes[row, 0].set_ylabel(f"{name} (white: {ERROR_SCALE})" if name == "error" else name, fontsize=8)
    figure.suptitle(headline, fontsize=9)
    with written_aside(path) as side:
        figure.savefig(side, format="png", dpi=100, metadata={"Software": None})


def _show(axes: Any, image: Images) -> None:
    clipped = np.clip(image, 0, 1)
    axes.imshow(clipped[..., 0] if clipped.shape[-1] == 1 else clipped, cmap="gray", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
