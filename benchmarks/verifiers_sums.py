"""A taskset of sums and a harness that asks once, for `trainer_runs.py` inside verifiers 0.4."""

from collections.abc import Iterator
from typing import Any

import httpx
import verifiers.v1 as vf

PROMPTS = 40


class SumData(vf.TaskData):
    answer: str = ""


class SumTask(vf.Task[SumData, vf.State, vf.TaskConfig]):
    @vf.reward(weight=1.0)
    async def correct(self, trace: vf.Trace) -> float:
        return float(trace.last_reply.endswith(f"Answer: {self.data.answer}"))

    @vf.reward(weight=0.0)
    async def brevity(self, trace: vf.Trace) -> float:
        return 1.0 / (1 + len(trace.last_reply))

    @vf.metric
    async def words(self, trace: vf.Trace) -> float:
        return float(len(trace.last_reply.split()))


class SumConfig(vf.TasksetConfig):
    pass


class SumTaskset(vf.Taskset[SumTask, SumConfig]):
    def load(self) -> Iterator[SumTask]:
        for n in range(PROMPTS):
            prompt = f"Case {n}: what is {n} and {3 * n}?"
            yield SumTask(SumData(prompt=prompt, answer=str(4 * n)), self.config.task)


class AskConfig(vf.HarnessConfig):
    pass


class AskHarness(vf.Harness[AskConfig]):
    APPENDS_SYSTEM_PROMPT = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(
        self,
        ctx: Any,
        trace: Any,
        runtime: Any,
        endpoint: str,
        secret: str,
        mcp_urls: Any,
        data: Any,
        tool_interception_url: Any = None,
    ) -> vf.ProgramResult:
        _, prompt = self.resolve_prompt(data)
        body = {"model": ctx.model, "messages": [{"role": "user", "content": prompt}]}
        async with httpx.AsyncClient(timeout=30) as client:
            said = await client.post(
                endpoint + "/chat/completions",
                headers={"Authorization": f"Bearer {secret}"},
                json=body,
            )
        code = 0 if said.status_code == 200 else 1
        return vf.ProgramResult(exit_code=code, stdout="", stderr=said.text[:500])


__all__ = ["AskHarness", "SumTaskset"]
