"""What another package adds to thermocancer: a kind of classifier and a backbone. Nothing heavy is imported here."""

from pydantic import BaseModel, ConfigDict

from thermocancer.kinds import FUSE, Backbone, Kind, Reads


class Options(BaseModel):
    """Settings of this kind alone, under ``fuse.options``."""

    model_config = ConfigDict(extra="forbid")
    softness: float = 1.0


KIND = Kind(
    "linear-svm", FUSE, Reads.CODES, "support vector machine with a linear kernel",
    "thermocancer_linear.family:LinearSvmFamily", settings=("fuse.C", "fuse.clip"), recorded=("fuse.C",),
    options="thermocancer_linear:Options",
)  # fmt: skip

BACKBONE = Backbone("coarse_means", "means over a coarse grid", "thermocancer_linear.family:build_coarse_means")
