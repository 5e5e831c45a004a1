"""The kernel: one call trains one run for several steps, in machine code that numba makes.

Shapes: B prompts of a step, G rollouts of each, L code levels, K codes, D features, H hidden units,
E numbers that encode a prompt; T is the precision of the parameters. `shapes` names all arrays.

**Order of one step** (`step.run_steps`):

1. *Prompts.* The next B of the epoch's order are copied to scratch, and encoded once.
2. *Paths* (`path`). The target's path is L rows per prompt, a row being a node of the trie in
   front of a prompt. A row's softmax gives the chance of following the path and of leaving it, and
   with it the law of hits and of leaving levels of G i.i.d. rollouts.
3. *Demand* (`draw`). By the plan of the strategy an outcome is drawn for each prompt from that law:
   a number of hits, or the cell of the boundary pair. A table of the strategy says what an outcome
   asks: credit of hits and anchors, credit of a miss, whether misses are walked. Where misses leave
   the path is drawn for those that are. What the loss is divided by follows, and the supervised
   term is added. A signal that is no table (`GIVEN`) is made outside, between 2 and 4.
4. *Walk* (`walk`). Level by level, first the paths' rows, then the rows of the misses that have
   left them: draw codes, all rollouts of a node together, pull on the node's log-probabilities
   (with the KL term, where there is one), go from there to the logits, and back to the parameters
   (`nets`).
   Children of a row are the walkers of the next level. Some `PIECE` rows are looked at together.
5. *Adam* over all parameters but the rows of nodes that no gradient has reached, whose moments are
   0. A step after which a parameter would not be a number, or beyond `LARGEST`, changes nothing and
   ends the run.

**Draws** (`numbers`) come from a stream that the run's seed and the step name, so that a run takes
the same steps beside any other runs, in any number of calls. Laws are those of i.i.d. groups; for
the rollouts that were drawn the gradient is exact.

**Compiling** (`code`) takes seconds, once per machine and precision. What keeps it short: inner
functions have no wrapper for Python, count no references, and are optimised once, in the function
that Python calls; where a reference policy is None, the KL term is not compiled. A literal 0 and an
int64 are two types to numba, hence `np.int64(0)` where a function is called with both. A loop over
`range(len(..))` becomes vector code, one over `range(a, b)` does not: the index might be negative.
"""
