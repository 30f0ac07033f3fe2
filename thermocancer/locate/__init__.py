"""Where a heat source lies, how deep, how sure: from the temperature of the skin back to a posterior."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Cells = npt.NDArray[np.float32]
