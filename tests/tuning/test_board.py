"""What a person sees while trials run elsewhere: a live table on a terminal, plain lines anywhere else."""

import re
import subprocess
import sys

import pytest

from copied_study import ROOT
from terminal import hide_terminal_variables, run_on_terminal

#: Four trials, two at a time, and the two trainings that confirm the best; trial 0 had ended before a kill.
SEARCH = """
import sys
import time
from optuna.trial import create_trial
from cotejo.tuning.progress import open_board
from cotejo.tuning.outcome import Outcome
from synthetic_search import declare_search

def row(epoch, value):
    return {"epoch": epoch, "val_accuracy": value, "val_loss": 1.0}

def end(board, name, state, values, reason=""):
    rows = []
    for epoch, value in enumerate(values, 1):
        rows.append(row(epoch, value))
        board.show(name, rows[-1])
        time.sleep(0.3)  # the table is drawn four times a second
    kept = values[-1] if state == "COMPLETE" else None
    board.end(name, Outcome(state, kept, rows, 0.0, {}, reason, "", (0.0, 60.0)))

print("begins", file=sys.stderr, flush=True)
search = declare_search(num_trials=5, parallel_trials=2, confirm_seeds=[7, 8])
known = create_trial(value=0.8)
with open_board(search, 10) as board:
    board.recall([known])
    board.begin("trial 1", {"learning_rate": 0.00123456, "epochs": 2})
    board.begin("trial 2", {"optimizer.name": "sgd", "epochs": 9})
    end(board, "trial 1", "COMPLETE", [0.5, 0.9])
    end(board, "trial 2", "PRUNED", [0.7])
    board.recall([known] * 3)
    board.begin("trial 3", {"learning_rate": 1.0})
    board.begin("trial 4", {})
    end(board, "trial 3", "FAIL", [], "trial 3: the loss is nan.\\nmore")
    end(board, "trial 4", "COMPLETE", [0.85])
    board.begin("confirm present seed 7", {})
    end(board, "confirm present seed 7", "COMPLETE", [0.95])
print("ends", file=sys.stderr, flush=True)
"""
COMMAND = [sys.executable, "-c", SEARCH]
LINES = [
    "trial 1: completed val_accuracy 0.9000 after 2/2 epochs, learning_rate=0.00123 epochs=2",
    "trial 2: pruned val_accuracy 0.7000 after 1/9 epochs, optimizer.name=sgd epochs=9",
    "trial 3: failed after 0/10 epochs, learning_rate=1. trial 3: the loss is nan.",
    "trial 4: completed val_accuracy 0.8500 after 1/10 epochs, declared values",
    "confirm present seed 7: completed val_accuracy 0.9500 after 1/10 epochs, declared values",
]
SUMMARIES = [
    "2/5 trials: 1 completed, 0 pruned, 0 failed; best 0.9000 (trial 1); 0:03:00 left",
    "3/5 trials: 1 completed, 1 pruned, 0 failed; best 0.9000 (trial 1); 0:02:00 left",
    "4/5 trials: 1 completed, 1 pruned, 1 failed; best 0.9000 (trial 1); 0:01:00 left",
    "5/5 trials: 2 completed, 1 pruned, 1 failed; best 0.9000 (trial 1)",
    "1/4 confirming trainings: 1 completed, 0 pruned, 0 failed; best 0.9000 (trial 1); 0:03:00 left",
]


@pytest.fixture
def environment(environment):
    return {**hide_terminal_variables(environment), "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'src'}"}


def test_elsewhere_each_finished_training_is_a_plain_line(environment, tmp_path):
    done = subprocess.run(COMMAND, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    expected = [f"{line}  [{summary}]" for line, summary in zip(LINES, SUMMARIES, strict=True)]
    assert done.stderr.splitlines() == ["begins", *expected, "ends"]


def test_a_terminal_shows_what_runs_and_keeps_the_finished_lines(environment, tmp_path):
    screen = run_on_terminal(COMMAND, environment, tmp_path, 130)
    assert [line for line in screen.lines if line] == [*LINES, "ends"]
    assert screen.shows_cursor
    seen = {" ".join(state.split()) for state in screen.states}
    assert "trial 1 1/2 0.5000 training learning_rate=0.00123 epochs=2" in seen
    assert "trial 2 0/9 begins optimizer.name=sgd epochs=9" in seen
    assert SUMMARIES[0] in seen
    assert any(state.startswith("confirm present seed 7 1/10 0.9500 training") for state in seen)


def test_more_trainings_than_a_terminal_has_lines_are_counted(environment, tmp_path):
    waiting = 'for n in range(100, 160):\n        board.begin(f"trial {n}", {})\n    '
    many = SEARCH.replace('board.begin("trial 1",', f'{waiting}board.begin("trial 1",')
    screen = run_on_terminal([sys.executable, "-c", many], environment, tmp_path, 60)
    assert any(re.fullmatch(r"and 4\d more", state.strip()) for state in screen.states)
    assert [line for line in screen.lines if line][-1] == "ends"
