#!/bin/sh
# OpenOneRec's own recipe (verl 0.5, commit 1f4a99e) with an advantage of this library: its two-stage
# rollout (a thought, then 32 beams), its data sets and prompts of up to 10,240 tokens are its own.
#
#   GPUS=1 STRATEGY=maxrl BASE_MODEL=MODEL DATA_DIR=RL_DATA sh examples/openonerec.sh CHECKOUT [overrides]
#
# CHECKOUT is its folder verl_rl; RL_DATA what its data/prepare_rl.sh wrote. STRATEGY is a name that
# verl's estimators can serve: no repair, which its rollout has no place for. Run it where both
# verl_rl and recast can be imported, Ray started or not.
set -eu
checkout=$1
shift
gpus=${GPUS:-8}
here=$(cd "$(dirname "$0")" && pwd)

export ENABLE_THINK="${ENABLE_THINK:-True}" STAGE2_BEAM_SIZE="${STAGE2_BEAM_SIZE:-32}"
export PYTHONPATH="$checkout:$(dirname "$here")${PYTHONPATH:+:$PYTHONPATH}"
cd "$checkout/recipe/onerec"
# Its script ends in silence where no Ray runs (its look for one fails under `set -e`, before its
# defaults) and where conda has no environment `verl`: neither is needed here.
exec bash -c '
	conda() { :; }
	python() { command python "$@" || :; }
	export -f conda python
	exec bash run_grpo.sh "$@"' run_grpo.sh \
	algorithm.adv_estimator="recast.${STRATEGY:-grpo}" \
	custom_reward_function.path="$here/openonerec_reward.py" \
	custom_reward_function.name=compute_score \
	trainer.n_gpus_per_node="$gpus" \
	trainer.nnodes="${NODES:-1}" \
	data.train_batch_size="$((gpus * ${NODES:-1}))" \
	actor_rollout_ref.actor.ppo_mini_batch_size="$((gpus * ${NODES:-1}))" \
	"$@"
