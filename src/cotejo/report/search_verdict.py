"""The result of a search as findings, for its page and for `cotejo best`; the locales have their words."""

from collections.abc import Iterator, Mapping
from typing import Any

from cotejo.comparison.records import Finding
from cotejo.report.measure import find_measure
from cotejo.report.sentences import Sentences
from cotejo.report.wording import Wording, build_environment


def build_sentences(summary: Mapping[str, Any], language: str, *, autoescape: bool, **shared: Any) -> Sentences:  # noqa: ANN401
    """Builds what renders a search's findings and texts.

    Args:
        summary: `summary.json`.
        language: en or es.
        autoescape: Whether the result is for a page.
        shared: Values that every text may use, beside `summary` and `measure`, which is the metric's name.
    """
    wording, measure = Wording(language), find_measure(summary["metric"])
    environment = build_environment(language, autoescape=autoescape)
    numerals = wording.locale["search"]["numerals"]
    environment.filters |= measure.list_filters(wording)
    environment.filters["in_words"] = lambda number: numerals.get(number, wording.integer(number))
    shared |= {"summary": summary, "measure": measure.get_name(wording)}
    return Sentences(environment, wording.locale["findings"], **shared)


def judge_search(summary: Mapping[str, Any]) -> list[Finding]:
    """Judges whether the search found better settings than the declared ones.

    Args:
        summary: `summary.json`.
    """
    best, declared = summary["best"], summary["present"]["value"]
    if best["number"] == 0:
        num_others = summary["num_trials"] - 1
        key = "search.declared" if num_others else "search.only"
        return [Finding(key, {"num_others": num_others, "value": declared})]
    failures = summary["confirm_failures"]
    failed = {"num_failed": len(failures), "failure": failures[0] if failures else ""}
    if summary["confirmation"] is None:
        values = {"number": best["number"], "best": best["value"], "declared": declared}
        return [Finding("search.unconfirmed", {**values, **failed})]
    verdict = Finding("search.confirmed", {**_describe_confirmation(summary), **failed})
    return [verdict] if count_held_out(summary) else [verdict, Finding("search.overestimated", {})]


def _describe_confirmation(summary: Mapping[str, Any]) -> dict[str, Any]:
    confirmed, measure = summary["confirmation"], find_measure(summary["metric"])
    is_better = confirmed["verdict"] == "real" or (confirmed["verdict"] != "worse" and confirmed["gain"] >= 0)
    return {
        **{key: confirmed[key] for key in ("verdict", "gain", "low", "high")},
        "is_higher": is_better == measure.is_higher_better,
        "num_seeds": len(confirmed["seeds"]),
        "epochs": summary["epochs"],  # 0, unless the budget is another one than that of the model's section
        "num_held_out": count_held_out(summary),
        "confidence": summary["confidence"],
    }


def count_held_out(summary: Mapping[str, Any]) -> int:
    """Returns the number of held-out images; 0 for a summary from before there were any."""
    return int(summary.get("num_held_out", 0))


def judge_luck(summary: Mapping[str, Any]) -> Finding | None:
    """Judges how much of the search's own value was luck; None where nothing was trained again."""
    confirmed = summary["confirmation"]
    if confirmed is None:
        return None
    return Finding(
        "search.luck",
        {
            "searched": summary["best"]["value"],
            "fresh": sum(confirmed["best"]) / len(confirmed["best"]),
            "optimism": confirmed["optimism"],
            "is_held_out": count_held_out(summary) > 0,
        },
    )


def list_warnings(summary: Mapping[str, Any]) -> Iterator[Finding]:
    """Lists what a reader must know before relying on the result."""
    num_trials = summary["num_trials"]
    if summary["ended_by"] == "timeout_s":
        yield Finding("search.warning.timeout", {"num_trials": num_trials})
    failed, pruned = (summary["num_by_state"][state] for state in ("FAIL", "PRUNED"))
    if failed:
        yield Finding("search.warning.failed", {"num_failed": failed, "num_trials": num_trials})
    if num_trials - pruned - failed < 2:
        yield Finding("search.warning.one_trial", {})


def list_notes(summary: Mapping[str, Any]) -> Iterator[Finding]:
    """Lists how the numbers are to be read."""
    yield Finding("search.note.validation", {})
    if num_held_out := count_held_out(summary):
        values = {"num_selecting": summary["num_selecting"], "num_held_out": num_held_out}
        yield Finding("search.note.held_out", values)
    yield Finding("search.note.value", {})
    if summary["confirmation"]:
        yield Finding("search.note.fresh_seeds", {})
        yield Finding("search.note.held_out_scores" if num_held_out else "search.note.test_images", {})
    if summary["importances"]:
        yield Finding("search.note.importance", {})
