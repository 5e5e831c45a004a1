"""Whether this engine says of a model what the model says of itself.

The engine encodes a prompt once for many rollouts, with masks and a cache of its own, and applies
the output embedding to some rows alone. Some architectures scale or cap their logits, bias
attention by distance, or carry a state from token to token; another policy would then be scored.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from recast.lm.decode import sample
from recast.lm.optional_extra import LMError
from recast.lm.prefix import CausalLM, backbone, chosen_logp, head, packed_logp, reencoded_logp
from recast.lm.trie import build_trie
from recast.lm.vocabulary import PromptTokens, Vocabulary

WORK = "Llama, Qwen, Mistral, Gemma and GPT-2 architectures work"
PROBE = Vocabulary(tokens=((1, 2), (3, 4), (5, 6)), before=())
PROMPTS = ((1, 4, 2, 6, 3), (5, 1, 3))
PATHS = (((0, 1, 0), (1, 1, 1)), ((1, 0, 1), (1, 0, 0)))
NEAR = 2e-3
"""Nats by which log-probabilities may differ in float32. In half precision, where logits of real
models are rounded to eighths, they may by a whole one."""
_BROKEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


@torch.no_grad()
def check_engine(model: CausalLM) -> None:
    """Raise LMError, one line, where rollouts or scores would not be the model's own, or training
    would be of another model than was sampled.

    A few short forward passes on the model's device, in its type; no random numbers are drawn.
    """
    was_training, name = model.training, type(model).__name__
    model.eval()
    try:
        own = _own_logits(model)
        with torch.random.fork_rng(devices=[]):
            trained = _own_logits(model.train())
        steady = all(torch.allclose(*pair, atol=1e-3) for pair in zip(own, trained, strict=True))
        model.eval()
        finite = all(bool(level.isfinite().all()) for level in own)
        gap = _gap(model, own) if finite and _plain_head(model) else None
    except _BROKEN as problem:
        text = " ".join(str(problem).split())
        if "memory" in text:
            raise
        raise LMError(f"{name}: this engine cannot run it ({text[:160]}); {WORK}") from None
    finally:
        model.train(was_training)
    if not finite:
        raise LMError(f"{name}: its logits are no finite numbers; are its weights whole?")
    if gap is None:
        raise LMError(
            f"{name} changes its logits after the output embedding, which this engine does not "
            f"reproduce; {WORK}"
        )
    if not gap <= (1.0 if model.dtype in (torch.float16, torch.bfloat16) else NEAR):
        raise LMError(
            f"{name} says other things of a text than this engine, which encodes a prompt once for "
            f"many rollouts (by {gap:.3g} nats); {WORK}"
        )
    if not steady:
        raise LMError(
            f"{name} says other things while it is trained than after, by dropout or noise that "
            f"its configuration does not turn off; {WORK}"
        )


def _own_logits(model: CausalLM) -> list[Tensor]:
    """The model's own, before each code of `PATHS`: per level `[B, U, V]`."""
    rows = []
    for prompt, paths in zip(PROMPTS, PATHS, strict=True):
        texts = [(*prompt, *(PROBE.tokens[i][c] for i, c in enumerate(path))) for path in paths]
        logits = model(input_ids=torch.tensor(texts, device=model.device)).logits.float()
        rows.append(logits[:, len(prompt) - 1 : -1])
    return list(torch.stack(rows).unbind(2))


def _plain_head(model: CausalLM) -> bool:
    """Whether logits are the output embedding of the last state."""
    ids = torch.tensor([PROMPTS[0]], device=model.device)
    near = 1e-2 if model.dtype in (torch.float16, torch.bfloat16) else 1e-4
    states = backbone(model).base_model(input_ids=ids).last_hidden_state
    return torch.allclose(
        head(model, states), model(input_ids=ids).logits.float(), atol=near, rtol=near / 10
    )


def _gap(model: CausalLM, own: list[Tensor]) -> float:
    """The most by which the engine's log-probabilities differ from the model's: scored with a
    shared prompt and with the prompt anew, drawn with a cache; over the codes that may follow and
    over the whole vocabulary."""
    device = own[0].device
    width = max(map(len, PROMPTS))
    ids = torch.tensor([(*row, *[0] * (width - len(row))) for row in PROMPTS], device=device)
    prompts = PromptTokens(ids, torch.tensor([len(row) for row in PROMPTS], device=device))
    paths, tokens = torch.tensor(PATHS, device=device), PROBE.table(device)
    trie = build_trie(list(product((0, 1), repeat=PROBE.depth))).to(device)
    gaps = []
    for among in (None, trie):
        shown = own if among is None else [o[..., tokens[i]] for i, o in enumerate(own)]
        said = chosen_logp(shown, tokens, paths, among, 1.0)
        scored = (
            score(model, PROBE, prompts, paths, among) for score in (packed_logp, reencoded_logp)
        )
        gaps += [(logp - said).abs().max() for logp in scored]
    certain = torch.zeros(paths.shape, device=device)
    whole = torch.full((len(PROMPTS),), PROBE.depth, device=device)
    drawn = sample(model, PROBE, trie, prompts, certain, given=paths[:, 0], hint=whole)
    gaps.append((drawn.logp[:, 0] - said[:, 0]).abs().max())
    return float(torch.stack(gaps).max())
