"""Logs in zip and tar archives, as people send them."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

from foreign_logs.cases import Truth, case, rng
from foreign_logs.scalars import TRL, truth, values
from foreign_logs.wrapped import sampled


def dumps(name: str, truth: Truth) -> dict[str, str]:
    """verl's files of a clean run by name."""
    files: dict[str, str] = {}
    for step, _, prompt, rows in sampled(rng(name), truth, steps=8):
        for row in rows:
            said = {"input": prompt, "output": row["completion"], "score": row["reward"], "gts": "",
                    "step": step}  # fmt: skip
            files[f"{step}.jsonl"] = files.get(f"{step}.jsonl", "") + json.dumps(said) + "\n"
    return files


def tarred(path: Path, files: dict[str, str], mode: str = "w") -> None:
    path.parent.mkdir(parents=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))


def zipped(path: Path, files: dict[str, str]) -> None:
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)


@case
def a_zip_alone_in_its_folder(folder: Path) -> Truth:
    """With what macOS and a checkpoint put beside the rollouts."""
    truth = Truth(clean=True)
    files = {f"run/rollouts/{name}": text for name, text in dumps("zip", truth).items()}
    beside = {"__MACOSX/run/._1.jsonl": "\0", "run/model.safetensors": "\0" * 9,
              "run/validation/8.jsonl": files["run/rollouts/8.jsonl"]}  # fmt: skip
    zipped(folder / "log" / "run.zip", {**beside, **files})
    return truth


@case
def a_tar_in_gzip(folder: Path) -> Truth:
    truth = Truth(clean=True, path="log/rollouts.tar.gz")
    tarred(folder / truth.path, dumps("tar", truth), "w:gz")
    return truth


@case
def an_archive_that_would_write_elsewhere(folder: Path) -> Truth:
    """Absolute names and names with `..`: read as plain names below one folder."""
    truth = Truth(clean=True, path="log/rollouts.tar")
    files = {f"/../../C:/{name}": text for name, text in dumps("elsewhere", truth).items()}
    tarred(folder / truth.path, files)
    return truth


@case
def a_checkpoint_in_a_zip(folder: Path) -> Truth:
    history = [{"step": s, **row}
               for s, row in values("zipped", TRL, lambda *_: {"clipped": 0.6})]  # fmt: skip
    zipped(folder / "log" / "checkpoint-60.zip",
           {"checkpoint-60/trainer_state.json": json.dumps({"log_history": history}),
            "checkpoint-60/config.json": "{}"})  # fmt: skip
    return truth(must=("truncated",))


@case
def an_archive_without_a_log(folder: Path) -> Truth:
    zipped(folder / "log" / "weights.zip", {"model.safetensors": "\0"})
    return Truth(refused=("weights.zip", "no log in this zip archive"))
