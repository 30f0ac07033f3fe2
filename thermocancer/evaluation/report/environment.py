"""What made a run: versions and the command, without anything that differs between two equal runs."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

PACKAGES = ("thermocancer", "numpy", "scipy", "scikit-learn", "keras", "tensorflow", "jax", "opencv-python", "h5py")
COMMANDS = {"fuse": "fuse", "train-dit": "train-dit", "train-cnn": "train-cnn"}


def environment() -> dict[str, str]:
    """Python and the versions of the packages that figures depend on."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def exact_command(name: str, manifest: dict[str, Any]) -> str:
    """The two commands that make this run and its report again from the same workspace."""
    stage = COMMANDS.get(str(manifest.get("stage", "fuse")), "fuse")
    return (
        f"thermocancer {stage} -w WORKSPACE -c WORKSPACE/runs/{name}/config.yaml --name {name}\n"
        f"thermocancer evaluate -w WORKSPACE -c WORKSPACE/runs/{name}/config.yaml --run {name}"
    )
