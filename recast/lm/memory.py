"""Peak memory of an update: the allocator's on a GPU, a count of what is kept on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch

from recast.lm.prefix import CausalLM


def peak_memory(model: CausalLM, call: Callable[[], object]) -> float:
    """Bytes at the peak of `call`, an update and its optimizer step.

    On CUDA the allocator's peak. On a CPU the tensors kept for the backward pass of the largest
    micro-batch, each storage once, plus weights, gradient and Adam's moments.
    """
    first = next(model.parameters())
    if first.is_cuda:
        torch.cuda.synchronize(first.device)
        torch.cuda.reset_peak_memory_stats(first.device)
        call()
        torch.cuda.synchronize(first.device)
        return float(torch.cuda.max_memory_allocated(first.device))
    weights = float(sum(4 * p.numel() * p.element_size() for p in model.parameters()))
    held: dict[int, int] = {}
    live = peak = 0
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    class Kept:
        """A tensor that waits for the backward pass; its storage is counted once."""

        def __init__(self, tensor: torch.Tensor) -> None:
            nonlocal live, peak
            self.tensor = tensor
            self.key = tensor.untyped_storage().data_ptr()
            if self.key not in own:
                if not held.get(self.key):
                    live += tensor.untyped_storage().nbytes()
                    peak = max(peak, live)
                held[self.key] = held.get(self.key, 0) + 1

        def __del__(self) -> None:
            nonlocal live
            if self.key not in own:
                held[self.key] -= 1
                if not held[self.key]:
                    live -= self.tensor.untyped_storage().nbytes()

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        call()
    return weights + peak
