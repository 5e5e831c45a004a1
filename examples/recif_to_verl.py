"""RecIF's parquet files as verl's trainer with repair (`examples/verl_openonerec.sh`) reads them.

    python examples/recif_to_verl.py IN.parquet OUT.parquet TOKENIZER [--think] [--most 10240]

IN has uuid and messages, the last of which is the assistant's. OUT has prompt (the other messages),
reward_model.ground_truth (the assistant's text with every target, less its thought), data_source
and target_ids: for each target its tokens with <|sid_begin|> and <|sid_end|>, and the end. A row
whose prompt is longer than `--most` tokens, less ten, is left out, as by OpenOneRec's data set.
"""

from __future__ import annotations

import argparse
import re
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import AutoTokenizer

from recast.lm.dataset import read_messages, without_thought

ITEM = re.compile(r"<\|sid_begin\|>(?:<s_[a-h]_\d+>)+<\|sid_end\|>")


def row_of(row: dict[str, Any], where: str, tokenizer: Any, think: bool, most: int) -> Any:
    """One row of verl's data, or None where its prompt is too long."""
    said = read_messages(row["messages"], where)
    if not said or said[-1][0] != "assistant":
        raise SystemExit(f"{where}: the last message is not the assistant's")
    answer = without_thought(said[-1][1])
    items = list(dict.fromkeys(ITEM.findall(answer)))
    if not items:
        raise SystemExit(f"{where}: the assistant's message holds no <|sid_begin|>...<|sid_end|>")
    mode = "/think" if think else "/no_think"
    prompt = [
        {"role": role, "content": text + (mode if role == "user" else "")}
        for role, text in said[:-1]
    ]
    text = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    if len(tokenizer(text, add_special_tokens=False)["input_ids"]) > most - 10:
        return None
    targets = [tokenizer(item, add_special_tokens=False)["input_ids"] for item in items]
    return {
        "prompt": prompt,
        "reward_model": {"ground_truth": answer, "style": "rule"},
        "data_source": str(row.get("source") or "recif"),
        "target_ids": [[*target, tokenizer.eos_token_id] for target in targets],
    }


def main() -> None:
    reader = argparse.ArgumentParser()
    reader.add_argument("source")
    reader.add_argument("out")
    reader.add_argument("tokenizer")
    reader.add_argument("--think", action="store_true", help="ask the model to think first")
    reader.add_argument("--most", type=int, default=10_240, help="tokens of a prompt")
    asked = reader.parse_args()
    try:
        tokenizer = AutoTokenizer.from_pretrained(asked.tokenizer)
        listed = pq.read_table(asked.source).to_pylist()
        rows = [
            row_of(row, f"{asked.source}: row {place}", tokenizer, asked.think, asked.most)
            for place, row in enumerate(listed)
        ]
        kept = [row for row in rows if row is not None]
        if not kept:
            raise SystemExit(f"--most: every prompt is longer than {asked.most - 10} tokens")
        pq.write_table(pa.Table.from_pylist(kept), asked.out)
    except (OSError, ValueError, KeyError) as problem:
        raise SystemExit(" ".join(str(problem).split())[:300]) from None
    print(f"{asked.out}: {len(kept)} rows, {len(rows) - len(kept)} longer than {asked.most - 10}")


if __name__ == "__main__":
    main()
