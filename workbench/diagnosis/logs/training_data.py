"""slime's rollouts, and the data of training that stand beside them in a folder of their own."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

from workbench.diagnosis.logs import tensors
from workbench.diagnosis.logs.formats.slime import join
from workbench.diagnosis.logs.log_files import COPIES
from workbench.diagnosis.logs.problems import Problems


def training_files(path: Path) -> list[Path]:
    """The files with slime's data of training that are read with a file of rollouts; it need not
    be one."""
    if path.parent.name != COPIES["slime"][0]:
        return []
    folder = path.parent.with_name(COPIES["slime"][1])
    files = sorted(folder.glob(f"{glob.escape(path.stem)}_*.pt"))
    return [*files, *(one for one in [folder / path.name] if one.is_file())]


def with_training(path: Path, problems: Problems) -> Any:
    """What slime saved; its rollouts with the advantages of the data of training beside them.

    Raises NoTensors for a file that holds no rollouts; data of training that cannot be used are a
    problem.
    """
    found = tensors.load(path)
    files = training_files(path)
    if not isinstance(found, dict) or not files:
        return found
    folder = files[0].parent
    try:
        sound = join(found, [tensors.load(one) for one in files])
    except tensors.NoTensors:
        sound = False
    if not sound:
        problems.file(
            f"{folder.name}/{path.name}",
            "these data of training are of other rollouts; name that folder to audit it alone",
        )
    return found
