"""Findings about the length of answers: cut off, collapsed, growing, or running in circles."""

from __future__ import annotations

from workbench.diagnosis.findings.curves import SHORT, Curves, moved
from workbench.diagnosis.findings.finding import Finding, Z

SHORTEST = 8.0
"""Mean length, in tokens, below which an answer has a fixed form and no length to speak of."""


def truncated(curves: Curves) -> Finding | None:
    """Answers are cut off by the length limit."""
    cut = curves.get("truncated") or curves.get("unended")
    if cut is None:
        return None
    how = (
        "were cut off by the length limit"
        if "truncated" in curves
        else "look cut off (no answer is longer, they end in the middle of a sentence)"
    )
    share = float(cut.last(1 / 3).mean())
    if share < 0.1:
        return None
    length = curves.get("length")
    about = f", at a mean length of {float(length.last(1 / 3).mean()):,.0f}" if length else ""
    end = float(cut.last().mean())
    about += f"; in the last tenth, {end:.0%}" if end > 1.25 * share else ""
    return Finding(
        "truncated",
        "problem" if max(share, end) >= 0.25 else "note",
        f"{share:.0%} of the answers {how} in the last third of the steps{about}. An answer "
        "without its end is scored as wrong whatever it was worth.",
        "Raise the limit (max_completion_length, max_response_length) before anything else, or "
        "leave cut answers out of the loss (mask_truncated_completions, overlong filtering). If "
        "they never end, check the stop tokens and the chat template.",
    )


def length_collapse(curves: Curves) -> Finding | None:
    """Answers became far shorter."""
    length = curves.get("length")
    if length is None or len(length) < SHORT:
        return None
    change = moved(length, 0.1)
    if change.before < SHORTEST or change.after > change.before / 3 or change.z > -Z:
        return None
    better = _better(curves)
    return Finding(
        "length_collapse",
        "note" if better else "problem",
        f"The mean length fell from {change.before:,.0f} in the first third of the steps to "
        f"{change.after:,.0f} in the last tenth"
        + (", while the score rose." if better else ", and the score did not rise."),
        "Read some of the last answers. A collapse to a stop token or to an empty answer comes "
        "from a reward that short answers earn, from a loss that divides by each answer's length, "
        "or from negative advantages on long answers only: take an earlier checkpoint, and mend "
        "that.",
    )


def length_growth(curves: Curves) -> Finding | None:
    """Answers became far longer without scoring better."""
    length = curves.get("length")
    if length is None or len(length) < SHORT:
        return None
    change = moved(length, 0.1)
    if change.before < SHORTEST or change.after < 2 * change.before or change.z < Z:
        return None
    if _better(curves):
        return None
    return Finding(
        "length_growth",
        "note",
        f"The mean length grew from {change.before:,.0f} in the first third of the steps to "
        f"{change.after:,.0f} in the last tenth, and the score did not rise.",
        "Compare right and wrong answers of one length: a loss that divides by each answer's "
        "length lets long wrong answers off (Dr. GRPO, or a token-wise mean, does not). Watch the "
        "share that is cut off.",
    )


def repetition(curves: Curves) -> Finding | None:
    """Answers repeat themselves."""
    again = curves.get("repetition")
    if again is None:
        return None
    late, early = float(again.last(0.1).mean()), float(again.first().mean())
    if late < 0.5:
        return None
    return Finding(
        "repetition",
        "problem" if late > early + 0.25 else "note",
        f"{late:.0%} of the 4-grams of an answer occur in it before, in the last tenth of the "
        f"steps ({early:.0%} in the first third): answers run in circles.",
        "Read some of them. Stop such answers early and score them as wrong, or take a checkpoint "
        "from before; if the log began like this, check the template and the sampling parameters.",
    )


def _better(curves: Curves) -> bool:
    """Whether the score rose: at the end, or in the last third without falling again."""
    score = curves.get("outcome") or curves.get("reward")
    if score is None:
        return False
    end, third = moved(score, 0.1), moved(score)
    kept = end.after - end.before > 0.5 * (third.after - third.before)
    return end.z > Z or (third.z > Z and kept)
