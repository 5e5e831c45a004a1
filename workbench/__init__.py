"""Experiments, their store, analysis, charts, log diagnosis, commands and pages.

From Python: `results = workbench.run(workbench.experiment("quick"))`; docs/python.md.
"""

from typing import TYPE_CHECKING

from recast.lazy_names import lazily

if TYPE_CHECKING:
    from workbench.execution.from_python import Results, experiment, run
    from workbench.spec.experiment import Experiment
    from workbench.store.runs import Store
else:
    __getattr__ = lazily(
        __name__,
        {
            "execution.from_python": ("Results", "experiment", "run"),
            "spec.experiment": ("Experiment",),
            "store.runs": ("Store",),
        },
    )

__all__ = ["Experiment", "Results", "Store", "experiment", "run"]
