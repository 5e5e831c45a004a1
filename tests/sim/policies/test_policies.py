"""Log-linear and transformer policies, the width ladder, and how a user asks for them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from command_line import recast

from recast import STRATEGIES
from sim.decoding.sample import path_logp
from sim.general.runs import Runs
from sim.policies.linear import LogLinear, Tabular
from sim.policies.mlp import MLP
from sim.policies.transformer import Transformer
from sim.seeds import normals
from sim.settings import Training
from sim.training.trainer import train
from sim.training.warm_start import StartRequest, all_zero_share, warm_start
from sim.worlds.catalogue import build_catalogue
from sim.worlds.synthetic import SyntheticWorld, build_synthetic
from sim.worlds.world import World
from workbench.errors import UserError
from workbench.execution.tasks import build_policy
from workbench.spec.experiment import assignments, load_experiment
from workbench.spec.sweep import Sweep

TINY = SyntheticWorld(
    items=24, codes=4, sft_prompts=512, train_prompts=256, validation_prompts=32, test_prompts=32
)
EVERY = [MLP(8), Tabular(), LogLinear(), Transformer(8)]
NAMES = ["mlp", "tabular", "loglinear", "transformer"]


@pytest.fixture(scope="module")
def world() -> World:
    return build_synthetic(TINY)


def by_tokens(params, catalogue, x, codes, run: int) -> list[list[float]]:
    """Log-probabilities after each prefix of one item's codes: the whole sequence, token by token,
    with loops over heads and positions."""
    own = {name: value[run].tolist() for name, value in params.items()}

    def times(vector, matrix):
        return [sum(v * row[j] for v, row in zip(vector, matrix, strict=True))
                for j in range(len(matrix[0]))]  # fmt: skip

    def scaled(vector):
        size = math.sqrt(sum(v * v for v in vector) / len(vector) + 1e-6)
        return [v / size for v in vector]

    def gelu(v):
        return 0.5 * v * (1 + math.erf(v / math.sqrt(2)))

    tokens, found = [times(x, own["user"])], []
    for level in range(catalogue.depth):
        width = len(tokens[0])
        query = times(scaled(tokens[-1]), own["query"])
        keys = [times(scaled(t), own["key"]) for t in tokens]
        values = [times(scaled(t), own["value"]) for t in tokens]
        mixed = []
        for head in range(2):
            part = range(head * width // 2, (head + 1) * width // 2)
            score = [
                math.exp(sum(query[i] * key[i] for i in part) / math.sqrt(width / 2))
                for key in keys
            ]
            mixed += [
                sum(s * value[i] for s, value in zip(score, values, strict=True)) / sum(score)
                for i in part
            ]
        out = times(mixed, own["output"])
        hidden = [a + b for a, b in zip(tokens[-1], out, strict=True)]
        inner = [gelu(v) for v in times(scaled(hidden), own["up"])]
        hidden = [a + b for a, b in zip(hidden, times(inner, own["down"]), strict=True)]
        logits = times(scaled(hidden), own["head"][level])
        logits = [a + b for a, b in zip(logits, own["bias"][level], strict=True)]
        found.append(logits)
        if level + 1 < catalogue.depth:
            tokens.append(own["token"][level][codes[level]])
    return found


def test_the_transformer_is_the_whole_sequence_token_by_token():
    codes = np.array([(0, 0, 0), (0, 2, 1), (1, 1, 3), (3, 2, 0), (3, 2, 1)])
    catalogue, policy, seeds = build_catalogue(codes, 4), Transformer(6), (3, 8)
    params = policy.init(catalogue, 3, seeds, torch.float64)
    params = {k: v + 0.5 * normals(seeds, f"rough/{k}", v.shape[1:]) for k, v in params.items()}
    context = normals(seeds, "context", (2, 3))
    encoded = policy.encode(params, context)
    for level in range(3):
        node = catalogue.path[:, level].expand(2, 2, -1)
        logits = policy.node_logits(params, encoded, catalogue, level, node)
        for run in range(2):
            for prompt in range(2):
                for item in range(catalogue.items):
                    want = by_tokens(
                        params, catalogue, context[run, prompt].tolist(), codes[item], run
                    )
                    got = logits[run, prompt, item]
                    torch.testing.assert_close(got, torch.tensor(want[level]).double())


def test_a_log_linear_policy_adds_what_the_user_brings_to_where_one_stands():
    catalogue = build_catalogue(np.array([(0, 0), (0, 1), (2, 1)]), 3)
    policy = LogLinear()
    params = policy.init(catalogue, 2, (0, 1), torch.float64)
    params["bias"] += normals((0, 1), "bias", (catalogue.nodes, 3))
    context = normals((0, 1), "context", (2, 2))
    node = torch.tensor([[[0, 1], [1, 0]]]).expand(2, -1, -1)
    got = policy.node_logits(params, policy.encode(params, context), catalogue, 1, node)
    for run in range(2):
        for prompt in range(2):
            for place in range(2):
                stand = params["bias"][run, 1 + int(node[run, prompt, place])]
                bring = context[run, prompt] @ params["weight"][run, :, 1]
                torch.testing.assert_close(got[run, prompt, place], bring + stand)


def test_a_trie_of_one_level_has_no_code_tokens():
    catalogue, policy = build_catalogue(np.array([[0], [2], [3]]), 5), Transformer(4)
    params = policy.init(catalogue, 2, (0,), torch.float64)
    assert "token" not in params
    encoded = policy.encode(params, normals((0,), "x", (2, 2)))
    logp = path_logp(policy, params, catalogue, encoded, torch.arange(3).expand(1, 2, 3))
    torch.testing.assert_close(logp.exp().sum((-2, -1)), torch.ones(1, 2).double())


@pytest.mark.parametrize("policy", EVERY, ids=NAMES)
def test_every_policy_can_be_warm_started_alone_as_in_company(world, policy):
    ask = StartRequest(0.35, 16, batch=64, lr=0.01)
    both = warm_start(policy, world, (0, 1), ask)
    alone = warm_start(policy, world, (1,), ask)
    share = all_zero_share(policy, both.params, world, world.train, 16)
    assert bool(((share - 0.35).abs() < 0.01).all())
    assert both.steps[1] == alone.steps[0]
    for name, value in alone.params.items():
        assert torch.equal(value[0], both.params[name][1])


@pytest.mark.parametrize("policy", EVERY, ids=NAMES)
def test_every_policy_learns_from_the_target(world, policy):
    start = policy.init(world.catalogue, 24, (0,), torch.float64)
    how = Training(steps=60, batch=32, group=4, evaluations=1)
    for name in ("sft", "recast", "rl_zvp"):
        rows = train(Runs(policy, world, STRATEGIES[name], start, (0,), how), torch.tensor([0.02]))
        first, last = rows[0].rows[0], rows[0].rows[-1]
        assert last["hr_at_10"] > first["hr_at_10"] or name == "rl_zvp"
        assert last["optimizer_steps"] == 60


def test_named_widths_are_numbers_and_change_no_key():
    named = load_experiment("quick", {"policy.width": "L"})
    assert named == load_experiment("quick", {"policy.width": 128})
    assert load_experiment("quick", {"policy.width": "M"}) == load_experiment("quick", {})
    sizes = [build_policy(load_experiment("quick", {"policy.width": w})) for w in ("S", "XL")]
    assert sizes == [MLP(32), MLP(256)]
    raw = load_experiment("quick", {}).model_dump() | {"strategies": ("sft",), "seeds": 1}
    grid = {"grid": {"policy.width": ["S", "M", "XL"]}, "exclude": [{"policy.width": "XL"}]}
    runs = Sweep.model_validate(raw | grid).runs()
    assert {run.experiment.policy.width for run in runs} == {32, 64}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy.width": "XS"}, r"policy.width: got 'XS'; expected a whole number or one of S "),
        ({"policy.width": 0}, "policy.width: got 0; expected an integer >= 1 and <= 4096"),
        ({"policy.kind": "rnn"}, "policy.kind: got 'rnn'; expected one of 'mlp', 'tabular'"),
        ({"policy.kind": "transformer", "policy.width": 7}, "policy: width 7: expected an even"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_in_one_line(changes, message):
    with pytest.raises(UserError, match=message) as found:
        load_experiment("quick", changes)
    assert "\n" not in str(found.value)


def test_set_reads_numbers_lists_and_plain_words():
    found = assignments(["train.lr=[0.1, 0.2]", "policy.width = S", "seeds=3", 'world.data="a=b"'])
    assert found == {
        "train.lr": [0.1, 0.2], "policy.width": "S", "seeds": 3, "world.data": "a=b",
    }  # fmt: skip
    for wrong in ("policy", "=3", "a b=3"):
        with pytest.raises(UserError, match="expected FIELD=VALUE"):
            assignments([wrong])


@pytest.mark.parametrize("policy", ["loglinear", "transformer"])
def test_a_user_trains_another_policy_with_set(tmp_path, policy):
    fields = {
        "policy.kind": policy, "policy.width": 8, "world.items": 32, "world.test_prompts": 16,
        "world.validation_prompts": 16, "start.all_zero": 0.55, "start.lr": 0.01,
        "train.steps": 2, "train.batch": 8, "train.group": 8, "train.evaluations": 1,
    }  # fmt: skip
    sets = [part for k, v in fields.items() for part in ("--set", f"{k}={v}")]
    base = ["run", "--preset", "quick", "--seeds", "1", "--lr", "0.01", "--strategy", "grpo"]
    done = recast(
        *base, *sets, "--store", str(tmp_path / "runs"), "--executor", "serial", "--format", "json"
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["strategy"] for row in rows] == ["start", "grpo"]
    assert rows[0]["all_zero"] == pytest.approx(0.55, abs=0.2)
