"""The data card: what a reader should know of the images before believing a number about them."""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cotejo.data.checks import Checks, Place
from cotejo.data.collection import Collection
from cotejo.data.decoding import show_path
from cotejo.data.directory import NESTED, STRAY
from cotejo.data.duplicates import MAX_DIFFERENCE, NEIGHBOURS
from cotejo.data.preparation import NearDouble, Prepared
from cotejo.data.splits import SPLITS
from cotejo.schema.images import Data, Preprocess

#: So many files, sizes and pairs are named in the Markdown; of what was left out the JSON names all.
SHOWN = 20
NOT_STATED = "not stated"
CARD_FILE = "reports/data/card.json"


def build_card(collection: Collection, prepared: Prepared, data: Data, preprocess: Preprocess) -> dict[str, Any]:
    """Gathers the card; the same for the same images and parameters.

    Args:
        collection: The images as they were found.
        prepared: What came of them.
        data: The policies.
        preprocess: Fractions, seed and operations.
    """
    description, checks = prepared.description, prepared.checks
    return {
        "name": collection.name,
        "title": collection.source.get("title") or collection.name,
        "homepage": collection.source.get("homepage") or NOT_STATED,
        "licence": collection.source.get("licence") or NOT_STATED,
        "path": data.path,
        "files": collection.source.get("files", {}),
        "digest": description["digest"],
        "image_shape": description["image_shape"],
        "color": prepared.color,
        "preprocess": preprocess.model_dump(mode="json"),
        "splits": {split: description["splits"][split] for split in SPLITS},
        "balance": _describe_balance(description["splits"]["train"]["per_class"]),
        "sizes": _describe_sizes(prepared.sizes),
        "left_alone": dict(collection.skipped),
        "unreadable": {"policy": data.on_bad_file, "count": len(checks.unread), "files": checks.unread},
        "duplicates": _describe_duplicates(checks, data),
        "near_duplicates": _describe_near(
            prepared.near_doubles,
            collection.class_names,
            sum(table["num_samples"] for table in description["splits"].values()),
        ),
    }


def save_card(card: Mapping[str, Any], folder: Path) -> None:
    """Writes `card.json` and `card.md` to an existing folder."""
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    (folder / "card.json").write_text(text, encoding="utf-8")
    (folder / "card.md").write_text(render_card(card), encoding="utf-8")


def warn_left_out(card: Mapping[str, Any]) -> None:
    """Prints on stderr how many images were left out, if any, and how many were never looked at."""
    removed = card["duplicates"]["removed"]
    reasons = [
        *([f"{card['unreadable']['count']:,} that can't be read"] if card["unreadable"]["count"] else []),
        *(f"{count:,} of {split} that another split has" for split, count in removed.items()),
    ]
    if reasons:
        print(f"preprocess: left out {' and '.join(reasons)}; {CARD_FILE} has their names", file=sys.stderr)
    for kind, advice in (
        (NESTED, "move them into the class's folder itself, or leave it so"),
        (STRAY, "move them into their class's folder, or leave it so"),
    ):
        if card["left_alone"].get(kind):
            print(f"preprocess: left alone {kind}: {card['left_alone'][kind]:,}; {advice}", file=sys.stderr)


def render_card(card: Mapping[str, Any]) -> str:
    """Renders the card as Markdown."""
    sizes, unreadable, duplicates = card["sizes"], card["unreadable"], card["duplicates"]
    height, width, _ = card["image_shape"]
    declared = card["preprocess"]
    lines = [
        f"# Data: {_escape(card['title'])}",
        "",
        *_render_table(
            ("what", "value"),
            [
                ("source", card["homepage"]),
                ("licence", card["licence"]),
                ("read from", card["path"]),
                ("images as trained on", f"{width}x{height}, {'colour' if card['color'] == 'rgb' else 'grey'}"),
                ("operations", ", ".join(step["name"] for step in declared["operations"]) or "none"),
                ("digest (SHA-256)", card["digest"]),
            ],
        ),
        "",
        "## Images by class",
        *_render_counts(card["splits"]),
        "",
        _say_balance(card["balance"]),
        "",
        "## Sizes as decoded",
        *_render_table(("width x height", "images"), [(size, f"{count:,}") for size, count in sizes["common"].items()]),
        *([f"\n{sizes['distinct']:,} sizes in all; these are the most common."] if sizes["distinct"] > SHOWN else []),
        "",
        "## Duplicates, pixel by pixel",
        *_render_duplicates(duplicates),
        "",
        "## Near duplicates",
        *_render_near(card["near_duplicates"]),
        "",
        "## Files left out",
        *[f"- {_escape(kind)}: {count:,}" for kind, count in card["left_alone"].items()],
        f"- files that can't be read: {unreadable['count']:,}",
        *_render_some(unreadable["files"]),
    ]
    return "\n".join(lines) + "\n"


def _describe_balance(per_class: Mapping[str, int]) -> dict[str, Any]:
    smallest, largest = (choose(per_class, key=per_class.__getitem__) for choose in (min, max))
    return {
        "smallest": {"class": smallest, "count": per_class[smallest]},
        "largest": {"class": largest, "count": per_class[largest]},
        "ratio": round(per_class[largest] / per_class[smallest], 2),
    }


def _say_balance(balance: Mapping[str, Any]) -> str:
    if balance["ratio"] == 1:
        return "The classes have about as many training images each."
    names = [_escape(balance[side]["class"]) for side in ("largest", "smallest")]
    return f"{names[0]} has {balance['ratio']:g} times the training images of {names[1]}."


def _describe_sizes(sizes: Counter[tuple[int, int]]) -> dict[str, Any]:
    """Lists sizes by how common they are, then by width and height."""
    common = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
    return {
        "distinct": len(sizes),
        "widths": [min(width for width, _ in sizes), max(width for width, _ in sizes)],
        "heights": [min(height for _, height in sizes), max(height for _, height in sizes)],
        "common": {f"{width}x{height}": count for (width, height), count in common},
    }


def _describe_duplicates(checks: Checks, data: Data) -> dict[str, Any]:
    return {
        "policy": data.duplicates,
        "across_splits": {f"{split} in {first}": count for (split, first), count in sorted(checks.doubles.items())},
        "removed": dict(sorted(checks.dropped.items())),
        "within_splits": dict(sorted(checks.inner_doubles.items())),
        "with_different_labels": len(checks.conflicts),
        "examples": [list(pair) for pair in (*checks.examples, *checks.conflicts)],
    }


def _describe_near(pairs: Sequence[NearDouble], class_names: Sequence[str], num_images: int) -> dict[str, Any]:
    counts = Counter(f"{pair.second.split} and {pair.first.split}" for pair in pairs)
    return {
        "max_difference": MAX_DIFFERENCE,
        "pairs": dict(sorted(counts.items())),
        "at_least": num_images > NEIGHBOURS + 1,  # then not every image is compared with every other one
        "with_different_labels": sum(pair.first.label != pair.second.label for pair in pairs),
        "examples": [
            {
                "first": _say(pair.first, class_names),
                "second": _say(pair.second, class_names),
                "difference": pair.difference,
            }
            for pair in pairs[:SHOWN]
        ],
    }


def _render_counts(splits: Mapping[str, Mapping[str, Any]]) -> list[str]:
    names = list(splits["train"]["per_class"])
    rows = [(name, *(f"{splits[split]['per_class'][name]:,}" for split in SPLITS)) for name in names]
    total = ("all", *(f"{splits[split]['num_samples']:,}" for split in SPLITS))
    return _render_table(("class", *SPLITS), [*rows, total])


def _render_duplicates(duplicates: Mapping[str, Any]) -> list[str]:
    done = {"drop": "left out", "keep": "kept", "fail": "refused"}[duplicates["policy"]]
    across = [f"- {where}: {count:,}, {done}" for where, count in duplicates["across_splits"].items()]
    within = [f"- twice in {split}: {count:,}, kept" for split, count in duplicates["within_splits"].items()]
    labels = duplicates["with_different_labels"]
    conflicts = [f"- in two classes: {labels:,}"] if labels else []
    examples = _render_some([f"{first} and {second}" for first, second in duplicates["examples"]])
    return [*across, *within, *conflicts, *examples] or ["None."]


def _render_some(lines: Sequence[str]) -> list[str]:
    more = len(lines) - SHOWN
    rest = [f"  - and {more:,} more, in {CARD_FILE.rpartition('/')[-1]}"] if more > 0 else []
    return [*(f"  - {_escape(line)}" for line in lines[:SHOWN]), *rest]


def _render_near(near: Mapping[str, Any]) -> list[str]:
    if not near["pairs"]:
        return ["None found across splits."]
    bound = "at least " if near["at_least"] else ""
    return [
        "Pairs in two splits that look alike: their 16x16 miniatures, brightness and contrast made the same, differ by "
        f"at most {near['max_difference']:.0%} of that contrast. They are kept; look at them.",
        "",
        *[f"- {where}: {bound}{count:,}" for where, count in near["pairs"].items()],
        f"- of these with different labels: {near['with_different_labels']:,}",
        "",
        *_render_table(
            ("one", "other", "difference"),
            [(pair["first"], pair["second"], f"{pair['difference']:.1%}") for pair in near["examples"]],
        ),
    ]


def _render_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(map(_escape, row)) + " |" for row in (head, *rows)]
    return [lines[0], "|" + "---|" * len(head), *lines[1:]]


def _escape(text: str) -> str:
    """Keeps what stands in a name from being Markdown or HTML."""
    return "".join("\\" + mark if mark in r"\`*_{}[]<>#|" else mark for mark in show_path(text))


def _say(place: Place, class_names: Sequence[str]) -> str:
    # what came in folders of splits, or was published in them, says its split itself
    split = "" if place.name.startswith(place.split) else f"{place.split}: "
    return f"{split}{show_path(place.name)} ({class_names[place.label]})"
