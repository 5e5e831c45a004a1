"""A hand-written policy-gradient loop that adopts `recast` with the three calls marked below."""

import torch

from recast import STRATEGIES, Origin, RolloutGroups, build_signal, denominator, policy_loss

torch.manual_seed(0)
strategy = STRATEGIES["recast"]
prompts, group, items = 16, 8, 64
target = torch.randint(items, (prompts, 1))
logits = torch.zeros(prompts, items, requires_grad=True)
optimizer = torch.optim.Adam([logits], lr=0.1)

for step in range(60):
    rollouts = torch.distributions.Categorical(logits=logits).sample((group,)).T
    hit = (rollouts == target).float()

    groups = RolloutGroups.of(hit)  # 1: what was sampled, [prompts, group]
    signal = build_signal(strategy, groups)  # 2: repair, selection and credit
    rollouts = torch.where(signal.groups.origin == Origin.ANCHOR, target, rollouts)

    logp = torch.log_softmax(logits, -1).gather(-1, rollouts).unsqueeze(-1)
    divisor = denominator(signal, strategy.denominator, length=1)
    loss = policy_loss(logp, logp.detach(), signal.advantage, signal.rows, divisor)  # 3: the loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 9:
        print(f"step {step + 1}: hits {hit.mean():.3f}")
