"""The result of a search, in words: for its page and for `cotejo best`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cotejo.report.measure import Measure, find_measure
from cotejo.report.wording import Wording

#: Numbers that a sentence says in a word.
WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine", 10: "ten"}
#: Of a confirmation without held-out images.
OVERESTIMATED = (
    "The images that confirm it chose the winner too, as search.holdout is 0: on average that overestimates the gain."
)


def say_verdict(summary: Mapping[str, Any], wording: Wording) -> str:
    """Renders whether the search found better settings than the declared ones.

    Args:
        summary: `summary.json`.
        wording: The language's numbers.
    """
    measure, confirmed = find_measure(summary["metric"]), summary["confirmation"]
    best, present = summary["best"], summary["present"]["value"]
    if best["number"] == 0:
        others, value = summary["num_trials"] - 1, f"{measure.say(wording, present)} {measure.name}"
        if not others:
            return f"The declared values were the only trial: {value}."
        return (
            f"The declared values are the best found: none of the {wording.integer(others)} other trials was better "
            f"than their {value}."
        )
    if confirmed is None:
        failures = summary["confirm_failures"]
        lack = f", since {_say_failures(failures, wording)}" if failures else " without search.confirm_seeds."
        return (
            f"Not confirmed: trial {best['number']} reached {measure.say(wording, best['value'])} {measure.name}, the "
            f"declared values {measure.say(wording, present)}, in one training each. Whether that is more than luck "
            f"is undecided{lack}"
        )
    return _say_confirmed(confirmed, summary, measure, wording)


def _say_confirmed(confirmed: Mapping[str, Any], summary: Mapping[str, Any], measure: Measure, wording: Wording) -> str:
    confidence, seeds = summary["confidence"], len(confirmed["seeds"])
    with_seeds = f"with {WORDS.get(seeds, seeds)} fresh seeds"
    if summary["epochs"]:  # another budget than that of the model's section
        with_seeds += f" of {wording.integer(summary['epochs'])} epochs each"
    num_held_out = count_held_out(summary)
    if num_held_out:
        with_seeds += f" on {wording.integer(num_held_out)} held-out images"
    unit = " points" if measure.is_share else ""
    low, high = (measure.say_signed(wording, confirmed[end]) for end in ("low", "high"))
    interval = f"{wording.confidence(confidence)} interval {low} to {high}"
    gain = measure.say_difference(wording, confirmed["gain"])
    better, worse = ("higher", "lower") if measure.is_higher_better else ("lower", "higher")
    if confirmed["verdict"] == "real":
        text = f"The search found better settings: {measure.name} {gain}{unit} {better}"
    elif confirmed["verdict"] == "worse":
        text = f"The search's winner is worse than the declared values: {measure.name} {gain}{unit} {worse}"
    else:
        side = better if confirmed["gain"] >= 0 else worse
        text = (
            "It is not decided whether the search's winner is better than the declared values: "
            f"{measure.name} {gain}{unit} {side}"
        )
    failures = summary["confirm_failures"]
    text = f"{text} {with_seeds} ({interval}; above 0 is better)"
    text += f", since {_say_failures(failures, wording)}" if failures else "."
    return text if num_held_out else f"{text} {OVERESTIMATED}"


def count_held_out(summary: Mapping[str, Any]) -> int:
    """Returns the number of held-out images; 0 for a summary from before there were any."""
    return int(summary.get("num_held_out", 0))


def _say_failures(failures: Sequence[str], wording: Wording) -> str:
    return f"{wording.integer(len(failures))} of the trainings with fresh seeds failed. The first: {failures[0]}"


def say_luck(summary: Mapping[str, Any], wording: Wording) -> str | None:
    """Renders how much of the search's own value was luck; None where nothing was trained again."""
    measure, confirmed = find_measure(summary["metric"]), summary["confirmation"]
    if confirmed is None:
        return None
    searched = measure.say(wording, summary["best"]["value"])
    fresh = measure.say(wording, sum(confirmed["best"]) / len(confirmed["best"]))
    where, of_what = (" on held-out images", "trainings and images") if count_held_out(summary) else ("", "trainings")
    start = f"The search measured {searched} for its winner; with fresh seeds it is {fresh} on average{where}."
    if confirmed["optimism"] <= 0:
        return f"{start} The search's own value didn't flatter it."
    difference = measure.say_difference(wording, confirmed["optimism"]) + (" points" if measure.is_share else "")
    return (
        f"{start} The {difference} between them were luck of {of_what}: the best of many trials looks better than it "
        "is."
    )


def list_warnings(summary: Mapping[str, Any], wording: Wording) -> Iterator[str]:
    """Lists what a reader must know before relying on the result."""
    if summary["ended_by"] == "timeout_s":
        yield (
            f"search.timeout_s ended the search after {wording.integer(summary['num_trials'])} trials. How many there "
            "were depended on the clock, so another run may find something else."
        )
    failed, pruned = (summary["num_by_state"][state] for state in ("FAIL", "PRUNED"))
    if failed:
        yield (
            f"{wording.integer(failed)} of {wording.integer(summary['num_trials'])} trials failed. The runs in MLflow "
            "and study.log say why."
        )
    if summary["num_trials"] - pruned - failed < 2:
        yield "Only one trial came to its end: nothing was compared with it over all epochs."


def list_notes(summary: Mapping[str, Any], wording: Wording) -> Iterator[str]:
    """Lists how the numbers are to be read."""
    yield "Everything here is measured on the validation images. The test images are read by the stage evaluate alone."
    if num_held_out := count_held_out(summary):
        yield (
            f"{wording.integer(summary['num_selecting'])} validation images chose each training's epoch and the "
            f"winner. {wording.integer(num_held_out)} others are held out (search.holdout): no trial sees them."
        )
    yield (
        "A trial's value is that of the epoch that is kept. A pruned trial shows the last value that it reported, so "
        "it can stand above completed ones."
    )
    if summary["confirmation"]:
        yield (
            "The winner and the declared values were trained again with seeds that the search had not used. The "
            "interval of their difference is for new images and new trainings. It is estimated from the score of each "
            "image with each seed, as the report's intervals are."
        )
        if num_held_out:
            yield "The scores of the fresh seeds are those on the held-out images, which took no part in any choice."
        else:
            yield f"{OVERESTIMATED} Only the test images, after cotejo best --apply and dvc repro, had no part in it."
    if summary["importances"]:
        yield (
            "Importance is fANOVA over the completed trials: the share of the differences between them that a "
            "parameter explains alone. With few completed trials it is rough."
        )
