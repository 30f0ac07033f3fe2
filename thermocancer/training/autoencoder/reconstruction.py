"""How well an image is reconstructed: PSNR and SSIM. Arrays in, numbers out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Images = npt.NDArray[np.float32]
K1, K2 = 0.01, 0.03
"""Stabilising constants of SSIM, for a data range of 1."""

SIGMA, RADIUS = 1.5, 5
"""The Gaussian window of SSIM: 11 x 11 pixels."""


def psnr(truth: Images, found: Images) -> FloatArray:
    """Peak signal-to-noise ratio of each image in decibels, shape (n,), for values in [0, 1].

    Inf where the two are equal.
    """
    error = np.mean((truth.astype(np.float64) - found) ** 2, axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return np.asarray(-10.0 * np.log10(error))


def ssim(truth: Images, found: Images) -> FloatArray:
    """Structural similarity of each image, shape (n,), mean over pixels and channels, at most 1.

    Wang, Bovik, Sheikh and Simoncelli 2004, equation 13, with its Gaussian window; data range 1.
    Images are (n, height, width, channels).
    """
    a, b = truth.astype(np.float64), found.astype(np.float64)
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a = _blur(a * a) - mean_a**2
    variance_b = _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    light = (2 * mean_a * mean_b + K1**2) / (mean_a**2 + mean_b**2 + K1**2)
    contrast = (2 * covariance + K2**2) / (variance_a + variance_b + K2**2)
    return np.asarray(np.mean(light * contrast, axis=(1, 2, 3)))


def _blur(images: FloatArray) -> FloatArray:
    from scipy.ndimage import gaussian_filter1d

    for axis in (1, 2):
        images = gaussian_filter1d(images, SIGMA, axis=axis, truncate=RADIUS / SIGMA)
    return images
