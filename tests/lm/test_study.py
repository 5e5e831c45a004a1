"""The measured comparison: what a run measures, how rates are chosen, and how it resumes."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import tiny
import torch
from test_commands import recast

from recast.lm.evaluate import per_prompt
from recast.lm.sft import target_logp, target_logps
from recast.lm.study import choose, cost, measure, policy_entropy, run
from recast.lm.update import RLTraining
from recast.strategies import parse_strategy
from workbench.real import study as realstudy
from workbench.store.runs import Store

SHORT = RLTraining(steps=4, batch=8, group=4, lr=1e-2, kl_weight=0.0, micro_rows=12)
PLAIN = ("grpo", "dr_grpo", "rloo", "contrast_only", "recast", "repair_only", "grpo_sft", "sft")


def weights(setup) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in setup.model.parameters()])


@pytest.mark.parametrize("name", PLAIN)
def test_leaving_idle_groups_out_of_the_update_changes_no_weight(name):
    found = []
    for skip in (False, True):
        setup = tiny.setup()
        list(run(setup, parse_strategy(name), replace(SHORT, lr=1e-3, skip_idle=skip), (4,)))
        found.append(weights(setup))
    assert not torch.equal(found[0], weights(tiny.setup()))
    assert torch.allclose(found[0], found[1], atol=1e-4)


def test_leaving_idle_groups_out_sends_fewer_tokens_through_the_actor():
    """7 of 8 groups without a hit: one group's rows are scored, and none with all groups idle."""
    seen = []
    for skip in (False, True):
        setup = tiny.setup(items=40)
        forward = setup.model.model.forward
        sizes: list[int] = []

        def spy(*args, forward=forward, sizes=sizes, **kwargs):
            sizes.append(kwargs["input_ids"].numel() if torch.is_grad_enabled() else 0)
            return forward(*args, **kwargs)

        setup.model.model.forward = spy
        list(run(setup, parse_strategy("grpo"), replace(SHORT, skip_idle=skip), (4,)))
        seen.append(sum(sizes))
    assert 0 < seen[1] < seen[0] / 2


def test_a_stop_is_a_checkpoint_of_the_whole_run():
    """target_power's schedule runs over all steps, however early the run is stopped."""
    early, whole = tiny.setup(), tiny.setup()
    strategy = parse_strategy("target_power")
    (only,) = run(early, strategy, SHORT, (2,))
    states = [(stop, weights(whole)) for stop in run(whole, strategy, SHORT, (2, 4))]
    assert [stop.step for stop, _ in states] == [2, 4]
    assert torch.equal(states[0][1], weights(early))
    assert states[0][0].ledger == only.ledger
    assert states[1][0].ledger.updated_rows == 2 * only.ledger.updated_rows == 2 * 16


def test_an_averaged_row_measures_the_mean_of_the_last_half_and_trains_on_from_its_own_weights():
    strategy = parse_strategy("sft")
    every, averaged = tiny.setup(), tiny.setup()
    own = [weights(every) for _ in run(every, strategy, SHORT, (1, 2, 3, 4))]
    found = [(s.step, weights(averaged)) for s in run(averaged, strategy, SHORT, (3, 4), "mean")]
    for (step, here), first in zip(found, (1, 2), strict=True):
        torch.testing.assert_close(here, torch.stack(own[first:step]).mean(0))
    assert torch.equal(weights(averaged), own[-1])


def test_the_lean_metrics_are_those_of_the_full_evaluation():
    """On 8 items, ten beams prune nothing; prompts of all lengths come back in their order."""
    setup = tiny.setup(items=8, count=150)
    data = setup.evaluation["test"]
    full, _ = per_prompt(setup.model, setup.vocabulary, setup.trie, data, 6, 0.7, [0.5] * 7)
    lean = measure(setup, data, 6, 0.7, best=[0.5] * 7, report=True)
    shared = set(full) & set(lean)
    assert {"hr_at_1", "hr_at_10", "ndcg_at_10", "pass_at_1_matched", "area", "all_zero"} <= shared
    for name in shared:
        assert torch.allclose(full[name], lean[name], atol=1e-5), name
    cold = target_logp(
        setup.model, setup.vocabulary, setup.trie, data.prompts, data.codes, temperature=0.25
    )
    assert torch.allclose(lean["pass_at_1_t025"], cold.double().exp(), atol=1e-5)


def test_several_temperatures_in_one_pass_are_each_their_own():
    setup = tiny.setup()
    data = setup.evaluation["test"]
    found = target_logps(
        setup.model, setup.vocabulary, setup.trie, data.prompts, data.codes, (1.0, 0.3), chunk=7
    )
    for place, temperature in enumerate((1.0, 0.3)):
        one = target_logp(
            setup.model,
            setup.vocabulary,
            setup.trie,
            data.prompts,
            data.codes,
            temperature=temperature,
        )
        assert torch.allclose(found[place], one, atol=1e-5)
    assert not torch.allclose(found[0], found[1])


def test_the_matched_temperature_gives_the_wanted_entropy():
    setup = tiny.setup()
    entropy, one = policy_entropy(setup)
    assert one == 1.0
    assert policy_entropy(setup, entropy)[1] == pytest.approx(1.0, abs=1e-3)
    assert policy_entropy(setup, 0.5 * entropy)[1] < 0.9


def test_rate_and_checkpoint_are_chosen_together_by_hand():
    nan = math.nan
    tried = {(1e-3, 2): [0.1, 0.3], (1e-3, 4): [0.2, 0.2], (3e-3, 2): [0.9, nan]}
    assert choose(tried) == (1e-3, 2)  # both 0.2: the earlier; the rate that diverged is out
    assert choose({**tried, (1e-4, 4): [0.2, 0.2]}) == (1e-4, 4)
    assert choose({**tried, (3e-3, 4): [0.2, 0.21]}) == (3e-3, 4)


def test_measuring_the_cost_leaves_the_model_as_it_was():
    setup = tiny.setup()
    before = weights(setup)
    found = cost(setup, parse_strategy("recast"), SHORT)
    assert torch.equal(before, weights(setup))
    assert all(p.grad is None for p in setup.model.parameters())
    assert found.rows <= 2 * 8
    assert found.peak_mib > 0
    assert found.step_cpu >= found.update_cpu > 0


def words(data: Path, out: Path) -> list[object]:
    found: list[object] = ["study", data, "--out", out, "--layers", 1, "--width", 32]
    found += ["--starts", 2, "--seeds", 3, "--tuning-seeds", 1, "--lr", 1e-3, "--lr", 1e-2]
    found += ["--steps", 2, "--stops", 2, "--batch", 8, "--group", 4]
    return [*found, "--strategy", "sft", "--strategy", "recast", "--strategy", "sft_train_targets"]


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_cut_study_resumes_reports_whole_seeds_and_ends_with_the_same_numbers(
    data_folder, tmp_path, capsys, monkeypatch
):
    one, two = tmp_path / "one", tmp_path / "two"
    assert recast(*words(data_folder, one), "--format", "csv") == 0
    whole = table(capsys.readouterr().out)
    labels = ["start", "sft", "sft_train_targets", "recast", "sft_tempered"]
    assert [row["strategy"] for row in whole] == 3 * labels
    assert [row["slice"] for row in whole[::5]] == ["all", "seen", "new"]
    assert {row["seeds"] for row in whole} == {"3"}

    real, done = realstudy.Study.report, []

    def cut(self, task):
        if len(done) == 4:  # the first seed's three runs, and one of the second
            raise KeyboardInterrupt
        done.append(real(self, task))

    monkeypatch.setattr(realstudy.Study, "report", cut)
    assert recast(*words(data_folder, two)) == 130
    monkeypatch.undo()
    capsys.readouterr()
    assert recast(*words(data_folder, two), "--read-only", "--format", "csv") == 0
    assert {row["seeds"] for row in table(capsys.readouterr().out)} == {"1"}
    assert recast(*words(data_folder, two), "--format", "csv") == 0
    printed = capsys.readouterr()
    assert table(printed.out) == whole
    assert "0 tuning and 5 reporting runs to do, about" in printed.err

    monkeypatch.setattr(realstudy.Study, "report", None)  # all is there: nothing is run again
    assert recast(*words(data_folder, two)) == 0
    text = capsys.readouterr().out
    assert "3 seeds: no claim of a seed-level difference is made." in text
    assert "Seen and newly introduced targets" in text


def test_a_decaying_row_trains_at_a_falling_rate_in_the_cell_of_the_others(
    data_folder, tmp_path, capsys
):
    asked = [*words(data_folder, tmp_path / "out"), "--strategy", "sft decaying"]
    assert recast(*asked, "--show", "tuning", "--format", "csv") == 0
    tried = {
        (row["strategy"], row["lr"], row["step"]): row["value"]
        for row in table(capsys.readouterr().out)
    }
    for lr in {lr for _, lr, _ in tried}:
        # Of two steps the first has the whole rate, the second half of it.
        assert tried["sft", lr, "1"] == tried["sft decaying", lr, "1"]
        assert tried["sft", lr, "2"] != tried["sft decaying", lr, "2"]
    frame = Store(tmp_path / "out" / "store").load()
    assert frame["cell"].n_unique() == 1
    falls = frame.filter(pl.col("train.schedule") == "linear")
    assert set(falls["strategy"]) == {"sft decaying"}


def test_the_study_feeds_the_store_and_reads_the_simulators(data_folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert recast(*words(data_folder, out)) == 0
    frame = Store(out / "store").load()
    assert frame["run"].n_unique() == 9
    assert frame["cell"].n_unique() == 1
    last = frame.filter((pl.col("strategy") == "recast") & (pl.col("step") > 0))
    assert set(last["slice"]) >= {"all", "seen", "new"}
    capsys.readouterr()
    both = ["recast", "sft", "--store", out / "store", "--format", "csv"]
    assert recast(*both, group=["compare"]) == 0
    assert {row["n"] for row in table(capsys.readouterr().out)} == {"3"}
    replay = tmp_path / "replay"
    simulate = ["--world", "replay", "--data", data_folder, "--store", replay, "--seeds", 2]
    simulate += ["--steps", 2, "--lr", 0.01, "--strategy", "sft", "--strategy", "recast"]
    simulate += ["--group", 4, "--all-zero", 0.78, "--executor", "serial"]
    assert recast(*simulate, group=["run"]) == 0
    capsys.readouterr()
    shown = ["--simulated", replay, "--show", "simulator", "--format", "csv"]
    assert recast(*words(data_folder, out), *shown) == 0
    rows = table(capsys.readouterr().out)
    assert {row["strategies"] for row in rows} == {"2"}
    shown = [*words(data_folder, out), "--show", "differences", "--format", "csv"]
    assert recast(*shown) == 0
    assert {row["verdict"] for row in table(capsys.readouterr().out)} == {"no claim"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--strategy", "grp"], "unknown 'grp'; did you mean 'grpo'"),
        (["--found", "credit=grp"], "--found: credit: unknown 'grp'"),
        (["--lr", "-1"], "'--lr': -1.0 is not in the range"),
        (["--batch", "4096", "--group", "4096"], "16,777,216 rollouts per step"),
        (["--start", "{tmp}/none"], "no checkpoint here"),
    ],
)
def test_what_a_user_can_put_right_in_a_study_is_one_line(
    more, message, data_folder, tmp_path, capsys
):
    filled = [word.format(tmp=tmp_path) for word in more]
    assert recast("study", data_folder, "--out", tmp_path / "o", *filled) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
