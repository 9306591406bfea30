"""What a search hands to its figures and its page, without training anything."""

import json

import numpy as np
import pandas as pd

from cotejo.report.searched import load_searched
from cotejo.schema.searches import Search

SPACE = {
    "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
    "batch_size": {"type": "choice", "choices": [32, 64, 128]},
    "optimizer.name": {"type": "choice", "choices": ["adam", "sgd"]},
    "optimizer.momentum": {"type": "float", "low": 0.0, "high": 0.9, "when": {"optimizer.name": ["sgd"]}},
    "epochs": {"type": "int", "low": 2, "high": 12},
}
PRESENT = {"learning_rate": 1e-3, "batch_size": 256, "optimizer.name": "adam", "optimizer.momentum": 0.0, "epochs": 10}
CONFIRMATION = {
    "seeds": [100, 101, 102, 103], "present": [0.900, 0.902, 0.899, 0.901], "best": [0.908, 0.909, 0.907, 0.910],
    "gain": 0.008, "low": 0.003, "high": 0.013, "verdict": "real", "optimism": 0.004,
}  # fmt: skip


def declare_search(**changes):
    """Returns the `search` section, with changes."""
    declared = {
        "model": "lenet", "num_trials": 40, "timeout_s": 0, "metric": "val_accuracy", "epochs": 0, "sampler": "tpe",
        "pruner": "hyperband", "parallel_trials": 4, "threads": 1, "seed": 0, "holdout": 0.5,
        "confirm_seeds": [100, 101, 102, 103], "confidence": 0.95, "space": SPACE,
    }  # fmt: skip
    return Search.model_validate({**declared, **changes})


def write_search(folder, num_trials=40, search=None, present=PRESENT, **summary):
    """Writes the tables of a search into a folder, and reads them back."""
    search = search or declare_search(num_trials=num_trials)
    trials, curves, times = _draw(search, present, num_trials)
    completed = trials[trials["state"] == "COMPLETE"]
    sign = 1 if search.direction == "maximize" else -1
    best = completed.loc[(sign * completed["value"]).idxmax()]
    told = {
        "model": search.model, "metric": search.metric, "direction": search.direction, "sampler": search.sampler,
        "pruner": search.pruner, "epochs": search.epochs, "num_trials": num_trials,
        "num_by_state": {state: int((trials["state"] == state).sum()) for state in ("COMPLETE", "PRUNED", "FAIL")},
        "epochs_run": int(trials["epochs_run"].sum()), "ended_by": "num_trials",
        "best": {"number": int(best["number"]), "value": float(best["value"]),
                 "values": {"learning_rate": 0.0123, "batch_size": 64, "optimizer.name": "adam", "epochs": 12}},
        "present": {"value": float(trials["value"][0]), "values": present},
        "importances": {"learning_rate": 0.6, "epochs": 0.3, "batch_size": 0.1},
        "confirmation": CONFIRMATION, "confirm_failures": [], "confidence": 0.95,
        "num_selecting": 3001, "num_held_out": 2999, **summary,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    trials.to_csv(folder / "trials.csv", index=False)
    curves.to_csv(folder / "curves.csv", index=False)
    (folder / "summary.json").write_text(json.dumps(told))
    (folder / "times.json").write_text(json.dumps({"stage": "search", "trials": times}))
    return load_searched(search, folder, folder / "times.json")


def _draw(search, present, num_trials):
    generator = np.random.default_rng(5)
    rows, points, times = [], [], []
    lanes = [0.0] * search.parallel_trials
    for number in range(num_trials):
        momentum = float(generator.uniform(0, 0.9)) if generator.random() < 0.5 else None
        values = {
            "learning_rate": float(10 ** generator.uniform(-4, -1)), "batch_size": int(generator.choice([32, 64, 128])),
            "optimizer.name": "adam" if momentum is None else "sgd", "optimizer.momentum": momentum,
            "epochs": int(generator.integers(2, 13)),
        }  # fmt: skip
        values = dict(present) if number == 0 else values
        top = 0.9 - 0.02 * (np.log10(values["learning_rate"]) + 2) ** 2 + 0.01 * generator.normal()
        state = "COMPLETE" if number < 3 else ["COMPLETE", "PRUNED", "PRUNED", "FAIL"][number % 4]
        epochs = {"COMPLETE": values["epochs"], "PRUNED": 1, "FAIL": 0}[state]
        curve = top * (1 - 0.4 * np.exp(-np.arange(1, epochs + 1) / 2))
        if search.direction == "minimize":
            curve = 2.5 * (1 - curve)
        points += [(number, epoch, float(value)) for epoch, value in enumerate(curve, 1)]
        rows.append({"number": number, "state": state, "value": float(curve[-1]) if epochs else None,
                     "epochs_run": epochs, "giga_operations": 3.1 * epochs, **values})  # fmt: skip
        lane = int(np.argmin(lanes))
        times.append({"number": number, "state": state, "began_s": lanes[lane], "ended_s": lanes[lane] + 1 + epochs})
        lanes[lane] += 1.1 + epochs
    trials = pd.DataFrame(rows)
    if search.sampler == "nsga2":
        trials.insert(5, "on_front", _find_front(trials, 1 if search.direction == "maximize" else -1))
    return trials, pd.DataFrame(points, columns=["number", "epoch", "value"]), times


def _find_front(trials, sign):
    completed = trials[trials["state"] == "COMPLETE"]
    return [
        row.state == "COMPLETE"
        and not any(
            (sign * completed["value"] >= sign * row.value)
            & (completed["giga_operations"] <= row.giga_operations)
            & ((completed["value"] != row.value) | (completed["giga_operations"] < row.giga_operations))
        )
        for row in trials.itertuples()
    ]
