"""ReCast inside TRL's trainer: `python examples/trl_recast.py DATA_FOLDER SFT_FOLDER/model OUT`."""

import sys
from pathlib import Path

from datasets import Dataset
from trl import GRPOConfig

from recast.adapters.trl import RecastGRPOTrainer
from recast.lm.checkpoint import load_model
from recast.lm.dataset import load_data
from recast.lm.tokenizer import code_tokenizer, prompt_text
from recast.lm.trie import build_trie

folder, start, out = map(Path, sys.argv[1:4])
data, policy = load_data(folder), load_model(start)
codes = policy.vocabulary.tokens
rows = [
    {
        "prompt": prompt_text(policy.vocabulary, row.history),
        "target_ids": [codes[level][code] for level, code in enumerate(row.target)],
    }
    for row in data.learning
]
trainer = RecastGRPOTrainer(
    model=policy.model,
    strategy="recast",
    args=GRPOConfig(
        str(out), max_steps=2, num_generations=8, max_completion_length=len(codes), bf16=False
    ),
    train_dataset=Dataset.from_list(rows),
    processing_class=code_tokenizer(policy.vocabulary),
    trie=build_trie(data.sids),
    vocabulary=policy.vocabulary,
)
trainer.train()
trainer.save_model()
trainer.accelerator.end_training()  # closes trackers and, under torchrun, the process group
