"""``convert``, ``filter`` and ``build-dataset``: from matrices to data sets."""

from __future__ import annotations

from typing import Any

from thermocancer.cli.common import stage_command


@stage_command("convert", example="thermocancer convert -w demo --set convert.format=png")
def convert() -> dict[str, Any]:
    """Turn matrices into images, and dynamic exams into videos."""
    return {}


@stage_command("filter", example="thermocancer filter -w demo --set 'filter.views=[Frontal]'")
def filter_exams() -> dict[str, Any]:
    """Keep complete and sound exams; say why each other one was dropped."""
    return {}


@stage_command("build-dataset", example="thermocancer build-dataset -w demo")
def build_dataset() -> dict[str, Any]:
    """Write the HDF5 data set and the one patient-wise split."""
    return {}
