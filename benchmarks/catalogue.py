"""What a large catalogue costs: the trie, rollouts, beams and exact path likelihoods.

    python -m benchmarks.catalogue [ITEMS] [CODES]

By default a million items with 8,192 codes per level and the small model. Processor seconds of one
run on one thread, and peak memory of the process; no other run is compared.
"""

from __future__ import annotations

import random
import resource
import sys
import time

import torch

from benchmarks.measure import table
from recast.lm.decode import beams, sample
from recast.lm.evaluate import entropy_curve
from recast.lm.models import SmallModel, build_small
from recast.lm.seeds import uniforms
from recast.lm.sft import target_logps
from recast.lm.trie import build_trie
from recast.lm.vocabulary import small_vocabulary

PROMPTS, GROUP, WIDTH = 16, 32, 50


def main() -> None:
    items, codebook = (int(word) for word in (*sys.argv[1:], "1000000", "8192")[:2])
    torch.set_num_threads(1)
    draw = random.Random(0)
    sids = set[tuple[int, ...]]()
    while len(sids) < items:
        # Codes as they come from clustering: some are used much more than others.
        sids.add(tuple(int(codebook * draw.random() ** 2) for _ in range(3)))
    rows = []

    def took(what: str, began: float) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rows.append({"what": what, "seconds": time.process_time() - began, "peak_gib": peak})

    began = time.process_time()
    listed = sorted(sids)
    took("catalogue in Python, sorted", began)
    began = time.process_time()
    trie = build_trie(listed)
    took(f"trie: children at most {', '.join(map(str, trie.width))}", began)
    vocabulary = small_vocabulary(3, codebook)
    model = build_small(vocabulary, SmallModel(), 0).eval()
    histories = [[draw.choice(listed) for _ in range(10)] for _ in range(PROMPTS)]
    prompts = vocabulary.prompts(histories)
    target = torch.tensor([draw.choice(listed) for _ in range(PROMPTS)])
    began = time.process_time()
    sample(model, vocabulary, trie, prompts, uniforms(0, "rollouts", 0, (PROMPTS, GROUP, 3)))
    took(f"{PROMPTS} x {GROUP} rollouts", began)
    began = time.process_time()
    beams(model, vocabulary, trie, prompts, WIDTH)
    took(f"{PROMPTS} x {WIDTH} beams", began)
    with torch.no_grad():
        began = time.process_time()
        target_logps(model, vocabulary, trie, prompts, target, (1.0,))
    took(f"{PROMPTS} path likelihoods", began)
    began = time.process_time()
    entropy_curve(model, vocabulary, trie, prompts)(1.0)
    took(f"entropy of {PROMPTS} prompts, sampled", began)
    table(f"A catalogue of {items:,} items, {codebook:,} codes per level", rows)


if __name__ == "__main__":
    main()
