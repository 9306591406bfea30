"""Measures Cotejo against plain Keras and PyTorch on this machine, and writes docs/benchmarks.md: make bench.

`python benchmarks/run.py --quick` tries every measurement on a few images and prints the page instead.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from page import render_page
from results import Contest, Measurement, check_same_net

PAGE = Path("docs/benchmarks.md")
MEASURE = Path(__file__).with_name("measure.py")
CPU_INFO = Path("/proc/cpuinfo")


class Sizes(NamedTuple):
    """How much is measured.

    Attributes:
        rounds: Turns of each opponent.
        epochs: Of which the first isn't counted.
        lenet: Images to train LeNet on, a multiple of its batch size, so that no last batch is smaller.
        resnet: Likewise for the residual network.
        convolutions: Steps of the ceiling.
        transfer: Images to fit a head on; a tenth as many validate it.
        transfer_rounds: Turns of each opponent in transfer learning.
        transfer_epochs: All of which are counted.
        tracking: Images of a tracked LeNet run; a tenth as many validate it.
        tracking_rounds: Turns of each, tracked and not.
        tracking_epochs: All of which are counted.
    """

    rounds: int = 5
    epochs: int = 4
    lenet: int = 25_600
    resnet: int = 3_200
    convolutions: int = 40
    transfer: int = 54_000  # the study's; with few images, what nets cost to build hides what features save
    transfer_rounds: int = 1
    transfer_epochs: int = 20
    tracking: int = 54_000
    tracking_rounds: int = 5
    tracking_epochs: int = 10  # the study's, since some of the cost is had once a run


QUICK = Sizes(rounds=1, epochs=2, lenet=1_280, resnet=320, convolutions=3, transfer=200, transfer_rounds=1,
              transfer_epochs=2, tracking=1_280, tracking_rounds=1, tracking_epochs=2)  # fmt: skip


class Opponent(NamedTuple):
    """A function to be measured, in a process of its own: see measure.py."""

    module: str
    function: str
    options: dict[str, Any]


def main() -> None:
    """Measures all and writes the page."""
    is_quick = sys.argv[1:] == ["--quick"]
    sizes = QUICK if is_quick else Sizes()
    began_s, began = time.perf_counter(), read_processor_time()
    contests = {
        "lenet": take_turns(list_lenet(sizes), sizes.rounds),
        "resnet": take_turns(list_resnet(sizes), sizes.rounds),
        "transfer": take_turns(list_transfer(sizes), sizes.transfer_rounds),
        "tracking": take_turns(list_tracking(sizes), sizes.tracking_rounds),
    }
    for contest in contests.values():
        check_same_net(contest)
    others, in_all = (end - start for start, end in zip(began, read_processor_time(), strict=True))
    page = render_page(contests, sizes._asdict(), time.perf_counter() - began_s, max(others / in_all, 0.0))
    if is_quick:
        print(page)
        return
    PAGE.write_text(page, encoding="utf-8")
    print(f"Written to {PAGE}")


def list_lenet(sizes: Sizes) -> dict[str, Opponent]:
    """Who trains LeNet."""
    task = {"net": "lenet", "num_samples": sizes.lenet, "epochs": sizes.epochs}
    return {
        "cotejo": Opponent("with_cotejo", "train", {**task, "precision": "float32"}),
        "keras": Opponent("with_keras", "train", task),
        "torch": Opponent("with_torch", "train", task),
        "checkpoints": Opponent("with_cotejo", "train", {**task, "precision": "float32", "has_checkpoints": True}),
    }


def list_resnet(sizes: Sizes) -> dict[str, Opponent]:
    """Who trains the residual network; and its convolutions alone, with a batch whole and in halves."""
    task = {"net": "resnet", "num_samples": sizes.resnet, "epochs": sizes.epochs}
    alone = {"net": "resnet", "repeats": sizes.convolutions}
    opponents = {
        "cotejo": Opponent("with_cotejo", "train", {**task, "precision": "float32"}),
        "cotejo_bfloat16": Opponent("with_cotejo", "train", {**task, "precision": "mixed_bfloat16"}),
        "keras": Opponent("with_keras", "train", task),
        "torch": Opponent("with_torch", "train", task),
        "convolutions": Opponent("ceiling", "time_convolutions", {**alone, "num_parts": 1}),
        "convolutions_in_halves": Opponent("ceiling", "time_convolutions", {**alone, "num_parts": 2}),
    }
    if not has_bfloat16():
        del opponents["cotejo_bfloat16"]
    return opponents


def list_transfer(sizes: Sizes) -> dict[str, Opponent]:
    """Who fits a head on a frozen backbone."""
    task = {"num_samples": sizes.transfer, "num_val": sizes.transfer // 10, "epochs": sizes.transfer_epochs}
    return {
        "cotejo": Opponent("with_cotejo", "transfer", {**task, "is_cached": False}),
        "cotejo_cached": Opponent("with_cotejo", "transfer", {**task, "is_cached": True}),
        "keras": Opponent("with_keras", "transfer", task),
    }


def list_tracking(sizes: Sizes) -> dict[str, Opponent]:
    """LeNet's run, tracked and not."""
    task = {"num_samples": sizes.tracking, "epochs": sizes.tracking_epochs}
    return {name: Opponent("tracking", "train", {**task, "is_tracked": name == "on"}) for name in ("off", "on")}


def has_bfloat16() -> bool:
    """Whether the processor says that it calculates in bfloat16; without, TensorFlow emulates it, slowly."""
    return CPU_INFO.exists() and "bf16" in CPU_INFO.read_text(encoding="utf-8")


def read_processor_time() -> tuple[float, float]:
    """Returns the seconds that all processors have worked for others than the measured processes, and in all."""
    times = psutil.cpu_times()
    measured = resource.getrusage(resource.RUSAGE_CHILDREN)
    idle_s = times.idle + getattr(times, "iowait", 0.0)
    return sum(times) - idle_s - measured.ru_utime - measured.ru_stime, sum(times)


def take_turns(opponents: dict[str, Opponent], rounds: int) -> Contest:
    """Measures each opponent once a round, so that whatever else the machine does hits all of them."""
    contest: Contest = {name: [] for name in opponents}
    for number in range(rounds):
        for name, opponent in opponents.items():
            contest[name].append(measure(opponent))
            print(f"round {number + 1}/{rounds}  {name}  {contest[name][-1]}", file=sys.stderr, flush=True)
    return contest


def measure(opponent: Opponent) -> Measurement:
    """Starts the process of a measurement and returns what it found.

    Raises:
        SystemExit: The process failed; what it said is shown.
    """
    command = [sys.executable, str(MEASURE), opponent.module, opponent.function, json.dumps(opponent.options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stderr}\n{' '.join(command)} failed.")
    measurement: Measurement = json.loads(done.stdout.splitlines()[-1])
    return measurement


if __name__ == "__main__":
    main()
