"""OpenOneRec's own reward, and this library's estimators beside it.

Its fork is verl 0.5, which does not know VERL_USE_EXTERNAL_MODULES; the file that holds the reward
is imported in the process that computes advantages, so importing the adapter here registers them.
`examples/openonerec.sh` names this file.
"""

from recipe.onerec.onerec_recipe import compute_score

import recast.adapters.verl

__all__ = ["compute_score", "recast"]
