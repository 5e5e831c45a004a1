"""The real-model path: causal language models on semantic IDs (optional extra `[lm]`).

Importing this package loads nothing heavy; its modules that run a model need transformers and
say so in one line when it is missing (`recast.lm.optional_extra`).
"""
