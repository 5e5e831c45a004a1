"""One module per trainer's log, and the table of them all. A new format is its module and one row.

Rows are matched against the formats in this order; the generic one fits everything.
"""

from workbench.diagnosis.logs.formats import (
    areal,
    generic,
    nemo_rl,
    open_instruct,
    openonerec,
    prime_rl,
    rllm,
    roll,
    roll_agentic,
    skyrl,
    slime,
    swift,
    tinker,
    trl,
    verifiers,
    verl,
)
from workbench.diagnosis.logs.layout import LogFormat

FORMATS: dict[str, LogFormat] = {
    module.FORMAT.name: module.FORMAT
    for module in (
        openonerec,
        verl,
        areal,
        swift,
        nemo_rl,
        roll,
        roll_agentic,
        open_instruct,
        tinker,
        skyrl,
        rllm,
        slime,
        prime_rl,
        verifiers,
        trl,
        generic,
    )
}

__all__ = ["FORMATS"]
