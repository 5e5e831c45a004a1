"""Hostile inputs, generated: over the whole schema of a sweep, over the grammar of strategies, over
the options of the commands, and over the texts that pages take.

An input is a dictionary: `kind`, `arguments` of the command line or a `text` of a page, and `files`
(name -> content) that stand in the folder where it is run. Nothing that is generated trains: a
plan is only counted (`--dry-run`), or meets a store that cannot be written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from recast.strategies import STRATEGIES
from recast.strategy import STAGES
from workbench.spec.sweep import Sweep

Input = dict[str, Any]
SCHEMA = Sweep.model_json_schema()
NOWHERE = "/dev/null/store"

# ---- values

TEXTS = st.one_of(
    st.text(max_size=12),
    st.text(alphabet=st.characters(), max_size=12),
    st.sampled_from(
        ["", " ", "\n", "\0", "\x1b[31m", "\u202e", "\ud800", "../..", "/dev/zero", "-"]
    ),
    st.sampled_from(["a", "é", "'", '"', "[", "{"]).flatmap(
        lambda letter: st.sampled_from([61, 300, 5_000, 100_000]).map(lambda n: letter * n)
    ),
)
DIGITS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([7, 31, 63, 64, 127, 1000]).flatmap(
        lambda power: st.sampled_from([2**power, -(2**power), 2**power - 1])
    ),
    st.integers(),
).map(str)
RAW_NUMBERS = st.one_of(
    DIGITS,
    st.floats().map(repr),
    st.sampled_from(["1e400", "-1e400", "1e-320", "0x" + "f" * 5_000, "9" * 5_000, "1_000", "0b1"]),
    st.sampled_from(["inf", "-inf", "nan", "+5", "1.", ".5", "10**20"]),
)


def toml_text(text: str) -> str:
    """A text as TOML writes it; what TOML cannot hold is left as it is."""
    return json.dumps(text, ensure_ascii=False)


NESTED = st.tuples(st.sampled_from(["[", "{a="]), st.sampled_from([2, 20, 1000, 20_000])).map(
    lambda pair: pair[0] * pair[1] + "1" + {"[": "]", "{a=": "}"}[pair[0]] * pair[1]
)
LONG_LISTS = st.tuples(st.integers(0, 9), st.sampled_from([0, 2, 3_000])).map(
    lambda pair: f"[{', '.join(str(pair[0] + k) for k in range(pair[1]))}]"
)
VALUES = st.one_of(
    RAW_NUMBERS, TEXTS.map(toml_text), NESTED, LONG_LISTS, st.sampled_from(["true", "1979-05-27"])
)

# ---- the schema of a sweep


def fields(part: Mapping[str, Any], above: str = "") -> dict[str, Mapping[str, Any]]:
    """Every dotted field of a JSON schema with its own part of it."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, inner in part.get("properties", {}).items():
        for option in inner.get("anyOf", [inner]):
            if "$ref" in option:
                option = SCHEMA["$defs"][option["$ref"].rsplit("/", 1)[-1]]
            if "properties" in option:
                found |= fields(option, f"{above}{name}.")
            else:
                found[f"{above}{name}"] = option
    return found


FIELDS = fields(SCHEMA)


def fitting(part: Mapping[str, Any]) -> st.SearchStrategy[str]:
    """Values that a field accepts, and those beside and on its bounds."""
    if "enum" in part:
        return st.sampled_from(part["enum"]).map(toml_text)
    if part.get("type") == "array":
        inner = part.get("items", {})
        return st.lists(fitting(inner), max_size=4).map(lambda some: f"[{', '.join(some)}]")
    if part.get("type") in ("integer", "number"):
        ends = [
            part[name]
            for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
            if name in part
        ]
        near = [end + by for end in ends for by in (-1, 0, 1)] or [0]
        return st.one_of(st.sampled_from(near).map(repr), RAW_NUMBERS)
    return st.one_of(TEXTS.map(toml_text), st.sampled_from(list(STRATEGIES)).map(toml_text))


def assigned(name: str) -> st.SearchStrategy[tuple[str, str]]:
    """A field with a value of its kind, of another kind, or a list of them."""
    own = fitting(FIELDS[name])
    many = st.lists(own, min_size=1, max_size=3).map(lambda some: f"[{', '.join(some)}]")
    return st.tuples(st.just(name), st.one_of(own, own, many, VALUES))


KEYS = st.one_of(
    st.sampled_from(sorted(FIELDS)),
    TEXTS.map(toml_text),
    st.sampled_from([20, 2_000]).map(lambda n: ".".join("a" * n)),
)
PAIRS = st.one_of(st.sampled_from(sorted(FIELDS)).flatmap(assigned), st.tuples(KEYS, VALUES))
TABLES = st.tuples(
    st.sampled_from(
        ["[grid]", "[[include]]", "[[exclude]]", "[tune]", "[world]", "[x]", "[[grid]]"]
    ),
    st.lists(PAIRS, max_size=3),
)
SWEEP_TEXTS = st.tuples(
    st.sampled_from(['base = "quick"', 'strategies = ["grpo"]', 'base = "qick"', ""]),
    st.lists(PAIRS, max_size=4),
    st.lists(TABLES, max_size=3),
    st.sampled_from(["", "", "", "\0", "]", '"', "\ufeff", "= 1"]),
).map(
    lambda parts: "\n".join(
        [
            parts[0],
            *(f"{key} = {value}" for key, value in parts[1]),
            *(
                "\n".join([head, *(f"{key} = {value}" for key, value in pairs)])
                for head, pairs in parts[2]
            ),
            parts[3],
        ]
    )
)

# ---- the grammar of strategies

OPTIONS = st.lists(
    st.one_of(
        RAW_NUMBERS,
        st.tuples(st.sampled_from(["k", "m", "eps", "ddof", "share", "x", ""]), RAW_NUMBERS).map(
            "=".join
        ),
    ),
    max_size=3,
).map(", ".join)
STAGED = st.sampled_from(
    [(kind, name) for kind, table in STAGES.items() for name in table]
).flatmap(
    lambda row: st.one_of(st.just(""), OPTIONS.map(lambda text: f"({text})")).map(
        lambda options: f"{row[0]}={row[1]}{options}"
    )
)
PARTS = st.one_of(
    STAGED,
    STAGED,
    st.tuples(
        st.sampled_from(
            ["policy_weight", "denominator", "update", "clip", "ratio", "anchor_ratio"]
        ),
        st.one_of(
            RAW_NUMBERS, TEXTS, st.sampled_from(["tokens", "active", "none", "shaped(1e300)"])
        ),
    ).map("=".join),
    TEXTS,
)
STRATEGY_TEXTS = st.one_of(
    st.lists(PARTS, min_size=1, max_size=4).map(", ".join),
    st.sampled_from(list(STRATEGIES)),
    TEXTS,
)

# ---- commands and pages


def command(kind: str, arguments: list[str], files: Mapping[str, str] | None = None) -> Input:
    """An input of the command line."""
    return {"kind": kind, "arguments": arguments, "files": dict(files or {})}


FLAGS = st.lists(
    st.one_of(
        st.tuples(st.just("--set"), PAIRS.map(lambda pair: f"{pair[0]}={pair[1]}")),
        st.tuples(st.just("--strategy"), STRATEGY_TEXTS),
        st.tuples(st.sampled_from(["--seeds", "--steps"]), RAW_NUMBERS),
        st.tuples(st.sampled_from(["--data", "--workers", "--store", "--nonsense"]), TEXTS),
    ),
    max_size=3,
).map(lambda pairs: [word for pair in pairs for word in pair])
PLANS = st.tuples(SWEEP_TEXTS, FLAGS).map(
    lambda pair: command(
        "a sweep's file",
        ["sweep", "plan.toml", *pair[1], "--dry-run", "--show", "runs"],
        {"plan.toml": pair[0]},
    )
)
RUNS = FLAGS.map(
    lambda flags: command(
        "flags of a run", ["run", "--preset", "quick", *flags, "--store", NOWHERE]
    )
)
LOGS = st.tuples(STRATEGY_TEXTS, RAW_NUMBERS, RAW_NUMBERS).map(
    lambda three: command(
        "flags of a diagnosis",
        [
            *("diagnose", "log.jsonl", "--strategy", three[0]),
            *("--threshold", three[1], "--tolerance", three[2]),
        ],
        {"log.jsonl": LOG},
    )
)
EXACT = st.tuples(STRATEGY_TEXTS, RAW_NUMBERS, RAW_NUMBERS).map(
    lambda three: command(
        "flags of an enumeration",
        ["exact", "--strategy", three[0], "--group", three[1], "--items", three[2]],
    )
)
NAMES = st.one_of(
    st.tuples(st.sampled_from(["compare"]), TEXTS, TEXTS, st.sampled_from(["--store"]), TEXTS),
    st.tuples(st.just("store"), st.sampled_from(["check", "migrate"]), TEXTS),
    st.tuples(st.just("store"), st.just("export"), TEXTS, TEXTS),
    st.tuples(st.just("diagnose"), TEXTS),
    st.tuples(st.just("sweep"), TEXTS),
    st.tuples(st.just("report"), TEXTS, st.just("--store"), TEXTS),
    st.tuples(st.just("calibrate"), st.just("--preset"), TEXTS),
    st.tuples(TEXTS, TEXTS),
).map(lambda words: command("names and paths", list(words)))
LOG_LINES = st.lists(
    st.one_of(
        st.dictionaries(
            st.sampled_from(["step", "prompt", "reward", "score", "input", "output", "x"]),
            st.one_of(RAW_NUMBERS, TEXTS.map(json.dumps), NESTED.filter(lambda t: "{a=" not in t)),
        ).map(lambda row: "{" + ", ".join(f'"{k}": {v}' for k, v in row.items()) + "}"),
        TEXTS,
    ),
    max_size=4,
).map(lambda lines: command("a log", ["diagnose", "log.jsonl"], {"log.jsonl": "\n".join(lines)}))
PAGES = st.one_of(
    SWEEP_TEXTS.map(lambda text: {"kind": "the sweep editor", "page": "sweep", "text": text}),
    st.one_of(TEXTS, st.lists(RAW_NUMBERS, max_size=4).map("*1_".join)).map(
        lambda text: {"kind": "a group in an address", "page": "group", "text": text}
    ),
)
LOG = "".join(
    json.dumps({"step": 0, "prompt": f"p{k // 4}", "reward": float(k % 5 == 0)}) + "\n"
    for k in range(16)
)

INPUTS: st.SearchStrategy[Input] = st.one_of(
    PLANS, PLANS, PLANS, RUNS, RUNS, LOGS, EXACT, NAMES, LOG_LINES, PAGES
)
