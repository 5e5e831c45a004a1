"""Tables of the measured comparison: scores, differences that are real, costs, and the simulator.

Columns are listed in docs/columns.md. Every interval resamples users and seeds together
(`workbench.stats.two_way`); p-values are corrected (Holm) over all rows and metrics against one
control.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from workbench.analysis.rows import last_rows
from workbench.analysis.tuning import edge
from workbench.plurals import number_of
from workbench.spec.metrics import LM_METRICS, SAMPLED
from workbench.stats.estimates import ENOUGH, FEWEST
from workbench.stats.p_values import LEVEL
from workbench.stats.samples import Floats
from workbench.stats.two_way import Draws, max_t_of_resamples, percentiles, rank_correlation

if TYPE_CHECKING:
    from recast.lm.study import Cost, Tuned
    from workbench.real.study import Study, StudyRun

CONTROLS = ("start", "sft", "sft averaged", "sft decaying", "grpo")
START = "start"


@dataclass(frozen=True)
class StudyValues:
    """Values `[rows, metrics, seeds, prompts]` of the finished seeds, users and slices `[prompts]`
    of the test split. tempered: the temperature at which the last row was read."""

    rows: tuple[str, ...]
    values: Floats
    users: tuple[str, ...]
    slices: Mapping[str, Floats]
    seeds: int
    tempered: float


def collect(study: Study, chosen: Mapping[str, Tuned]) -> StudyValues | None:
    """Read what is finished: the seeds that every entry has. None before the first.

    The tempered row is `sft`, each code sampled at the temperature whose Pass@1 on the tuning users
    is highest, over all seeds; its ranked list is that of `sft`, and so are C(k) and the area.
    """
    from recast.lm.evaluate import evaluation_set
    from recast.lm.trie import build_trie

    tasks = study.report_tasks(dict(chosen))
    left = {task.seed for task in study.missing(tasks)}
    by_seed: dict[int, list[StudyRun]] = {}
    for task in tasks:
        if task.seed not in left:
            by_seed.setdefault(task.seed, []).append(task)
    if not by_seed:
        return None
    labels = [task.entry.label for task in next(iter(by_seed.values()))]
    temperature = _tempered(study, [t for ts in by_seed.values() for t in ts])
    found = []
    for seed, mine in by_seed.items():
        tables = [study.values(seed), *(study.values(task) for task in mine)]
        rows = [[frame[m].to_numpy() for m in LM_METRICS] for frame in tables]
        if temperature is not None:
            frame = tables[1 + labels.index("sft")]
            ends = {m: f"{m}_{temperature[1]}" for m in SAMPLED}
            rows.append([frame[ends.get(m, m)].to_numpy() for m in LM_METRICS])
        found.append(rows)
    names = (START, *labels, *([] if temperature is None else ["sft_tempered"]))
    data = study.data
    vocabulary = study.setup(0).vocabulary
    chosen_set = evaluation_set(
        vocabulary,
        build_trie(data.sids),
        data.test,
        data.slices(data.test),
        study.plan.eval_prompts,
    )
    return StudyValues(
        names,
        np.asarray(found).transpose(1, 2, 0, 3),
        chosen_set.users,
        {name: flags.numpy() for name, flags in chosen_set.slices.items()},
        len(by_seed),
        1.0 if temperature is None else temperature[0],
    )


def _tempered(study: Study, tasks: Sequence[StudyRun]) -> tuple[float, str] | None:
    from recast.lm.study import TEMPERATURES, temperature_name

    keys = [task.key for task in tasks if task.entry.label == "sft"]
    if not keys:
        return None
    frame = study.plan.store.load(keys).filter(split="validation", slice="all")
    frame = frame.filter(pl.col("step") > 0)
    means = {t: frame[f"pass_at_1_{temperature_name(t)}"].mean() for t in TEMPERATURES}
    best = max(means, key=lambda t: (float(means[t]), t))  # type: ignore[arg-type]
    return best, temperature_name(best)


def scores(
    measured: StudyValues,
    chosen: Mapping[str, Tuned],
    slices: Sequence[str] = ("all",),
    rates: Sequence[float] = (),
) -> pl.DataFrame:
    """slice, strategy, lr, edge, step, seeds, prompts, and each metric m with m_low, m_high.

    rates: the grid; edge: at which end of it the chosen rate lies, "" inside. A slice without
    prompts is left out.
    """
    draws = Draws.of(measured.users, measured.seeds)
    found: list[dict[str, Any]] = []
    for label in slices:
        keep = None if label == "all" else measured.slices[label]
        if keep is not None and not keep.any():
            continue  # of no prompt there is nothing to say
        mean, drawn = draws.means(measured.values, keep)
        low, high = percentiles(drawn)
        for i, name in enumerate(measured.rows):
            lr, step = chosen.get("sft" if name == "sft_tempered" else name, (None, 0))
            row: dict[str, Any] = {"slice": label, "strategy": name, "lr": lr}
            row |= {"edge": "" if lr is None else edge(rates, lr)}
            row |= {"step": step, "seeds": measured.seeds}
            row |= {"prompts": len(measured.users) if keep is None else int(keep.sum())}
            for j, metric in enumerate(LM_METRICS):
                enough = measured.seeds >= FEWEST
                row |= {
                    metric: float(mean[i, j]),
                    f"{metric}_low": float(low[i, j]) if enough else None,
                    f"{metric}_high": float(high[i, j]) if enough else None,
                }
            found.append(row)
    return pl.DataFrame(found, infer_schema_length=None)


def differences(measured: StudyValues) -> pl.DataFrame:
    """control, strategy, metric, difference (strategy minus control), difference_low,
    difference_high, p_corrected (max-T over all rows and metrics of a control), verdict: "above",
    "below", "not told apart", or "no claim" below ten seeds."""
    draws = Draws.of(measured.users, measured.seeds)
    _, drawn = draws.means(measured.values)
    mean = measured.values.mean((-2, -1))
    found: list[dict[str, Any]] = []
    for control in CONTROLS:
        if control not in measured.rows:
            continue
        base = measured.rows.index(control)
        family: list[dict[str, Any]] = []
        gaps: list[Floats] = []
        for i, name in enumerate(measured.rows):
            if i == base or name == START:
                continue
            for j, metric in enumerate(LM_METRICS):
                gap = drawn[i, j] - drawn[base, j]
                low, high = percentiles(gap)
                family.append(
                    {
                        "control": control,
                        "strategy": name,
                        "metric": metric,
                        "difference": float(mean[i, j] - mean[base, j]),
                        "difference_low": float(low),
                        "difference_high": float(high),
                    }
                )
                gaps.append(gap)
        observed = np.array([row["difference"] for row in family])
        corrected = max_t_of_resamples(observed, np.stack(gaps)) if gaps else []
        for row, p in zip(family, corrected, strict=True):
            row["p_corrected"] = p
            row["verdict"] = _verdict(row["difference"], p, measured.seeds)
        found += family
    return pl.DataFrame(found, infer_schema_length=None)


def _verdict(difference: float, p: float, seeds: int) -> str:
    if seeds < ENOUGH:
        return "no claim"
    return "not told apart" if p >= LEVEL else "above" if difference > 0 else "below"


def sentences(table: pl.DataFrame, seeds: int) -> list[str]:
    """Which differences are real, one sentence per control and metric."""
    if seeds < ENOUGH:
        return [f"{number_of(seeds, 'seed')}: no claim of a seed-level difference is made."]
    found = []
    for (control, metric), rows in table.group_by("control", "metric", maintain_order=True):
        parts = [
            f"{verdict}: {', '.join(names)}"
            for verdict in ("above", "below", "not told apart")
            if (names := rows.filter(verdict=verdict)["strategy"].to_list())
        ]
        found.append(f"{metric} against {control}: {'; '.join(parts)}.")
    return found


def wide(table: pl.DataFrame, control: str) -> pl.DataFrame:
    """The differences to one control, a row per strategy; a star marks what is real."""
    found = []
    rows = table.filter(control=control)
    for (name,), mine in rows.group_by("strategy", maintain_order=True):
        cells = {
            r["metric"]: f"{r['difference']:+.4f} [{r['difference_low']:+.4f}, "
            f"{r['difference_high']:+.4f}]{'*' if r['verdict'] in ('above', 'below') else ''}"
            for r in mine.iter_rows(named=True)
        }
        found.append({"strategy": str(name), **cells})
    return pl.DataFrame(found)


def costs(found: Mapping[str, Cost], micro_rows: int) -> pl.DataFrame:
    """strategy, rows, tokens, update_cpu_ms, step_cpu_ms, peak_mib, micro_rows; of one step."""
    return pl.DataFrame(
        [
            {
                "strategy": label,
                "rows": cost.rows,
                "tokens": cost.tokens,
                "update_cpu_ms": 1000 * cost.update_cpu,
                "step_cpu_ms": 1000 * cost.step_cpu,
                "peak_mib": cost.peak_mib,
                "micro_rows": micro_rows,
            }
            for label, cost in found.items()
        ]
    )


def against_simulator(measured: StudyValues, simulated: pl.DataFrame) -> pl.DataFrame:
    """metric, rho (Spearman, over strategies), rho_low, rho_high, p, strategies.

    simulated: rows of a store with `tuned` marked; each side's final test means over seeds. The
    interval resamples users and seeds of the real model and seeds of the simulator.
    """
    last = last_rows(simulated.filter("tuned"))
    known = set(last["strategy"])
    shared = [name for name in measured.rows if name in known]
    draws = Draws.of(measured.users, measured.seeds)
    mean, drawn = draws.means(measured.values[[measured.rows.index(n) for n in shared]])
    table = [
        last.filter(strategy=name).sort("seed").select(LM_METRICS).to_numpy().T for name in shared
    ]
    seeds = min(t.shape[1] for t in table)
    other = np.stack([t[:, :seeds] for t in table])
    weights = Draws.of([str(s) for s in range(seeds)], 1, drawn.shape[-1]).users
    other_drawn = other @ weights.T / seeds
    found = []
    for j, metric in enumerate(LM_METRICS):
        fit = rank_correlation(mean[:, j], other[:, j].mean(-1), drawn[:, j], other_drawn[:, j])
        found.append(
            {
                "metric": metric,
                "rho": fit.rho,
                "rho_low": fit.low,
                "rho_high": fit.high,
                "p": fit.p,
                "strategies": fit.n,
                "simulator_seeds": seeds,
            }
        )
    return pl.DataFrame(found)
