"""Vectors of items, whose cosine says how near a recommendation comes to its target."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from recast.items import read_index
from recast.lm.dataset import LMData
from recast.lm.optional_extra import LMError, require


def read_similarity(file: Path, folder: Path, data: LMData, category: str | None = None) -> Tensor:
    """Unit vectors `[N, d]` of the catalogue's semantic IDs, float32.

    file: a .npy matrix with a row per item of the folder's index, in its order, as MiniOneRec's
    `*.emb-*.npy`; items that share an ID have the last one's row, as its semantic reward takes it.
    Raises LMError, one line, for a file that is not such a matrix.
    """
    numpy = require("numpy")
    try:
        if not file.is_file():  # a pipe would be waited for
            raise OSError("no regular file")
        matrix = numpy.load(file, allow_pickle=False)
    except (OSError, ValueError) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise LMError(f"{file}: not a readable .npy matrix: {reason}") from None
    listed = sorted((folder / "index").glob(f"{category or ''}*.index.json"))
    if len(listed) != 1:
        raise LMError(f"{folder}/index: expected one *.index.json, which names the rows of {file}")
    try:
        index = read_index(listed[0])[1]
    except ValueError as problem:
        raise LMError(str(problem)) from None
    if matrix.ndim != 2 or len(matrix) != len(index) or matrix.dtype.kind != "f":
        raise LMError(
            f"{file}: expected floating point [{len(index)}, d], a row per item of "
            f"{listed[0].name}; found {matrix.dtype} {list(matrix.shape)}"
        )
    row_of = {sid: row for row, sid in enumerate(index.values())}
    rows = torch.from_numpy(matrix[[row_of[sid] for sid in data.sids]].astype("float32"))
    if not bool(rows.isfinite().all()):
        raise LMError(f"{file}: holds values that are no finite numbers")
    return torch.nn.functional.normalize(rows, dim=-1)
