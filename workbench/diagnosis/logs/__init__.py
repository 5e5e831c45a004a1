"""Reading training logs: rollouts of GRPO-like runs, from several trainers, as one small table."""
