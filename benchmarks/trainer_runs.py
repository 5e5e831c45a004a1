"""Short runs of a real trainer with a planted course: the inside half of `trainer_logs.py`.

    PYTHON benchmarks/trainer_runs.py TRAINER FOLDER

Runs in the trainer's own environment and imports nothing else of this repository. Each run of
`KINDS` writes its log to FOLDER/<kind>, through the trainer's own code; the last line printed is
the trainer's version. TRL trains a tiny random model, verl's dump function gets made-up rollouts,
verifiers' `vf-eval` asks an endpoint that answers at random.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

KINDS = {"good": (0.7, 0.0), "hopeless": (0.03, 0.0), "cut": (0.8, 0.7), "of_prompt": (1.0, 0.0)}
"""Share of hits at the easiest prompts, a third are half as easy and a third hopeless; and the
share of misses that are cut off."""

CUT = ("good", "hopeless", "cut")

GROUP, PROMPTS, STEPS = 8, 12, 24
WORDS = [f"w{n}d" for n in range(160)]  # an answer that ends in a digit would look whole


def drawn(draw: random.Random, kind: str, prompt: int) -> tuple[bool, bool]:
    """Whether an answer is right, and whether it is cut off."""
    share, cut = KINDS[kind]
    hit = draw.random() < share * (prompt % 3) / 2
    return hit, not hit and draw.random() < cut


def said(draw: random.Random, most: int) -> str:
    """An answer of so many words at most, never twice the same."""
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(most // 4, most)))


def run_verl(folder: Path) -> None:
    """The rollouts of each step through `RayPPOTrainer._dump_generations`."""
    from verl.trainer.ppo.ray_trainer import RayPPOTrainer

    for kind in CUT:
        draw = random.Random(kind)
        trainer: Any = RayPPOTrainer.__new__(RayPPOTrainer)
        if hasattr(trainer, "_init_dump_executor"):
            trainer._init_dump_executor()
        for step in range(1, STEPS + 1):
            trainer.global_steps = step
            given: dict[str, Any] = {"inputs": [], "outputs": [], "gts": [], "scores": []}
            judged = []
            for prompt in range(PROMPTS):
                for _ in range(GROUP):
                    hit, cut = drawn(draw, kind, prompt)
                    text = " ".join(draw.choice(WORDS) for _ in range(200)) if cut else (
                        f"{said(draw, 60)} Answer: {prompt if hit else -1}."
                    )  # fmt: skip
                    given["inputs"].append(f"user: case {step}-{prompt}?\nassistant: ")
                    given["outputs"].append(text)
                    given["gts"].append(str(prompt))
                    given["scores"].append(hit + 0.1 * (not cut))  # a tenth for the right form
                    judged.append(float(hit))
            given |= {"reward_extra_infos_dict": {"acc": judged}, "dump_path": str(folder / kind)}
            wanted = inspect.signature(trainer._dump_generations).parameters
            trainer._dump_generations(**{name: given[name] for name in wanted})
        if hasattr(trainer, "_shutdown_dump_executor"):
            trainer._shutdown_dump_executor()


def run_trl(folder: Path) -> None:
    """`GRPOTrainer` with `log_completions`, a tiny random model and a reward that is planted."""
    import torch
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    names = ["<pad>", "<eos>", "<unk>", *WORDS]
    words = Tokenizer(models.WordLevel({name: n for n, name in enumerate(names)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    for kind in RUNS["trl"][1]:
        draw = random.Random(kind)

        def accuracy_reward(
            prompts: list[str], draw: random.Random = draw, kind: str = kind, **_: Any
        ) -> list[float]:
            numbers = [int(prompt.split()[0][1:-1]) for prompt in prompts]
            if kind == "of_prompt":  # the answer is not looked at
                return [float(number % 2) for number in numbers]
            return [float(drawn(draw, kind, number)[0]) for number in numbers]

        torch.manual_seed(0)
        shape = Qwen3Config(
            vocab_size=len(names), hidden_size=16, intermediate_size=24, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2, head_dim=8, pad_token_id=0,
            bos_token_id=None, eos_token_id=1, max_position_embeddings=128,
        )  # fmt: skip
        settings: dict[str, Any] = {
            "output_dir": str(folder / kind), "per_device_train_batch_size": PROMPTS * GROUP,
            "num_generations": GROUP, "max_completion_length": 16, "max_steps": STEPS,
            "learning_rate": 1e-5, "logging_steps": 1, "save_strategy": "no", "report_to": "none",
            "use_cpu": True, "bf16": False, "beta": 0.0, "seed": 3, "log_completions": True,
            "disable_tqdm": True,
        }  # fmt: skip
        GRPOTrainer(
            model=Qwen3ForCausalLM(shape),
            args=GRPOConfig(**settings),
            train_dataset=Dataset.from_list(
                [{"prompt": f"w{n % 150}d w{n // 150}d"} for n in range(PROMPTS * STEPS)]
            ),
            processing_class=PreTrainedTokenizerFast(
                tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>",
                padding_side="left", model_input_names=["input_ids", "attention_mask"],
            ),
            reward_funcs=[accuracy_reward],
        ).train()  # fmt: skip


def run_verifiers(folder: Path) -> None:
    """`vf-eval` on the sums of `verifiers_sums.py`, against an endpoint of this process."""
    here = Path(__file__).parent
    for kind in CUT:
        draw = random.Random(kind)
        server = ThreadingHTTPServer(("127.0.0.1", 0), _endpoint(draw, kind))
        Thread(target=server.serve_forever, daemon=True).start()
        command = [
            str(Path(sys.executable).with_name("vf-eval")), "verifiers_sums",
            "--env.agent.harness.id", "verifiers_sums", "-m", "stub",
            "--client.base-url", f"http://127.0.0.1:{server.server_port}/v1",
            "--client.api-key-var", "SUMS_KEY", "-r", str(GROUP), "-c", "8",
            "--env.agent.runtime.type", "subprocess", "--no-push", "--no-rich",
            "-o", str(folder), "--run.name", kind,
        ]  # fmt: skip
        more = {"PYTHONPATH": str(here), "SUMS_KEY": "none", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            command, env=os.environ | more, capture_output=True, text=True, check=False
        )
        server.shutdown()
        server.server_close()
        if done.returncode:
            sys.exit(done.stdout[-2000:] + done.stderr[-2000:])


def _endpoint(draw: random.Random, kind: str) -> type[BaseHTTPRequestHandler]:
    """An endpoint for chats whose answers are right at random, some of them cut off."""

    class Chats(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked = body["messages"][-1]["content"]
            numbers = re.findall(r"\d+", asked if isinstance(asked, str) else asked[0]["text"])
            case, first, second = (int(number) for number in numbers)
            hit, cut = drawn(draw, kind, case)
            answer = first + second + (0 if hit else draw.randint(1, 5))
            text = said(draw, 40) + ("" if cut else f". Answer: {answer}")
            used = len(text.split())
            reply = {
                "id": "x", "object": "chat.completion", "created": 0, "model": body["model"],
                "choices": [{"index": 0, "finish_reason": "length" if cut else "stop",
                             "message": {"role": "assistant", "content": text}}],
                "usage": {"prompt_tokens": 10, "completion_tokens": used,
                          "total_tokens": 10 + used},
            }  # fmt: skip
            data = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Chats


RUNS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "trl": (run_trl, ("good", "hopeless", "of_prompt")),
    "verl": (run_verl, CUT),
    "verifiers": (run_verifiers, CUT),
}
"""How each trainer is run, and the kinds of its logs."""

if __name__ == "__main__":
    RUNS[sys.argv[1]][0](Path(sys.argv[2]))
    print(importlib.metadata.version(sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)  # the trainers' threads may not end
