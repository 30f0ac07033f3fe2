"""Is this exam like those a run was trained on? If not, the run should not answer."""

from __future__ import annotations

import numpy as np

from thermocancer.cache import cached_json
from thermocancer.config import Config
from thermocancer.data.cohort import centi_celsius
from thermocancer.data.novelty import Reference, make_reference
from thermocancer.data.store.reading import DYNAMIC, STATIC, StoredCohort
from thermocancer.files import fingerprint
from thermocancer.kinds import Reads
from thermocancer.runs.run import Run

MOST_EXAMS = 60
"""So many training exams (evenly spaced) are measured: enough for a range, and quick."""


def training_exams(run: Run, config: Config) -> tuple[Reference | None, tuple[int, int] | None]:
    """What the exams of a run's data set look like, remembered in the cache, and the shape of their frames.

    None where the data set is gone; no look either where it holds colours. Up to sixty exams are measured.
    """
    path = run.workspace.dataset(config.dataset.name)
    if not path.exists():
        return None, None
    with StoredCohort(path, DYNAMIC if run.reads is Reads.FRAMES else STATIC) as cohort:
        if cohort.kind != "celsius":
            return None, cohort.shape
        view = run.manifest.views[0]

        def measure() -> Reference:
            present = np.flatnonzero(cohort.present(view))
            some = np.linspace(0, len(present) - 1, min(MOST_EXAMS, len(present))).round().astype(np.int64)
            matrices = (centi_celsius(cohort, view, np.array([row]))[0] / 100.0 for row in present[np.unique(some)])
            return make_reference(matrices, [cohort.exams[row].layout for row in present])

        memory = run.workspace.cache / "likeness" / f"{fingerprint(cohort.fingerprint, view)[:32]}.json"
        made = cached_json(memory, measure, encode=Reference.as_json, decode=Reference.from_json)
        return made, cohort.shape
