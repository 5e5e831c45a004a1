#!/bin/sh
# ReCast in verl's synchronous trainer (0.8 and 0.9), with the settings of OpenOneRec's recipe as far
# as they are public: 32 rollouts per prompt, clip .2 / .28, k3 KL of .001 to the start, rate 2e-6.
#
#   sh examples/verl_openonerec.sh MODEL TRAIN.parquet VALID.parquet REWARD.py [hydra overrides]
#
# TRAIN has verl's columns (prompt, reward_model, data_source) and target_ids: the ground truth's
# token ids, end of sequence included, equally long in every row. REWARD.py defines compute_score and
# returns 1 for a response that names a target and 0 otherwise: the outcome, not a partial score.
# verl samples; it has no beam search, so a group is 32 draws and not a beam set.
set -eu
model=$1 train=$2 valid=$3 reward=$4
shift 4

python -m recast.adapters.verl_main \
	+trainer.v1.recast_sync.strategy="${STRATEGY:-recast}" \
	+trainer.v1.recast_sync.divisor=strategy \
	algorithm.adv_estimator=grpo \
	algorithm.use_kl_in_reward=False \
	critic.enable=False \
	data.train_files="$train" \
	data.val_files="$valid" \
	data.train_batch_size=32 \
	data.max_prompt_length=2048 \
	data.max_response_length=16 \
	reward.custom_reward_function.path="$reward" \
	actor_rollout_ref.model.path="$model" \
	actor_rollout_ref.actor.optim.lr=2e-6 \
	actor_rollout_ref.actor.ppo_mini_batch_size=32 \
	actor_rollout_ref.actor.use_dynamic_bsz=True \
	actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-sum \
	actor_rollout_ref.actor.clip_ratio_low=0.2 \
	actor_rollout_ref.actor.clip_ratio_high=0.28 \
	actor_rollout_ref.actor.use_kl_loss=True \
	actor_rollout_ref.actor.kl_loss_coef=0.001 \
	actor_rollout_ref.actor.kl_loss_type=low_var_kl \
	actor_rollout_ref.rollout.name=vllm \
	actor_rollout_ref.rollout.n=32 \
	actor_rollout_ref.rollout.temperature=1.0 \
	actor_rollout_ref.rollout.calculate_log_probs=False \
	trainer.n_gpus_per_node="${GPUS:-8}" \
	trainer.total_epochs=1 \
	"$@"
