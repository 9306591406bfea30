"""Measures Cotejo against plain Keras and PyTorch on this machine, and writes docs/benchmarks.md: make bench.

`python benchmarks/run.py --quick` tries every measurement on a few images and prints the page instead;
`python benchmarks/run.py search` measures what the page says under "The search", and leaves the rest of it as it is;
`python benchmarks/run.py scaling` does so with "A search on more workers", `comparing` with "Comparing", and
`own-images` with "Your own images".
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import psutil
from comparison_page import render_comparing
from own_images_page import render_own_images
from page import put_section, render_page, render_scaling
from results import Contest, Measurement, check_same_net
from search_page import BigStudy, Race, describe, render_search

PAGE = Path("docs/benchmarks.md")
RAW = Path("docs/benchmarks-search.json")
MEASURE = Path(__file__).with_name("measure.py")
#: Samplers, and how many aims a study of theirs has.
AIMS = {"gp": "one", "tpe": "one", "random": "one", "grid": "one", "cmaes": "one", "qmc": "one", "nsga2": "two"}
#: A short search's trial of LeNet on this kind of machine.
SLEEPING_EPOCHS, SLEEPING_EPOCH_S = 8, 0.4
CPU_INFO = Path("/proc/cpuinfo")


class Sizes(NamedTuple):
    """How much is measured.

    Attributes:
        rounds: Turns of each opponent.
        epochs: Of which the first isn't counted.
        lenet: Images to train LeNet on, a multiple of its batch size, so that no last batch is smaller.
        resnet: The same for the residual network.
        convolutions: Steps of the ceiling.
        transfer: Images to fit a head on; a tenth as many validate it.
        transfer_rounds: Turns of each opponent in transfer learning.
        transfer_epochs: All of which are counted.
        tracking: Images of a tracked LeNet run; a tenth as many validate it.
        tracking_rounds: Turns of each, tracked and not.
        tracking_epochs: All of which are counted.
        search_rounds: Turns of each search.
        search_train: Images of a search's trials.
        search_val: Images that tell which trial is the best.
        search_trials: Trials of the plain search.
        search_epochs: Of each trial.
        big_trials: Trials of the study that is opened, resumed and drawn.
        scaling_trials: Of a search on one worker and on two.
        scaling_samples: Images of its trials; a tenth as many validate them.
        scaling_epochs: Of each trial, at most.
        sleepers: Numbers of workers whose trials only sleep, each with how many trials are proposed at once.
        sleeping_trials: Of a search on them, a multiple of each number.
        compare_models: Models that are compared with each other.
        compare_samples: Test predictions of each model and seed.
        compare_seeds: Numbers of seeds, each of which is measured.
        own_images: Pictures of one's own, to prepare and to classify.
        own_side: Their height and width, in pixels.
        own_few: So many of them are classified as well, to tell what many add to the memory.
        own_large_images: Larger ones, to train on; their pixels are three times the memory limit.
        own_large_side: Their height and width.
        own_memory_limit: `runtime.memory_limit`.
        own_epochs: Of each training on them.
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
    search_rounds: int = 5
    search_train: int = 16_000
    search_val: int = 6_000  # as the study has; with fewer, which trial is the best is luck
    search_trials: int = 30
    search_epochs: int = 10  # LeNet's
    big_trials: int = 10_000
    scaling_trials: int = 8
    scaling_samples: int = 12_800
    scaling_epochs: int = 5
    sleepers: tuple[tuple[int, int], ...] = ((1, 1), (2, 2), (8, 8), (8, 32), (32, 32))
    sleeping_trials: int = 64
    compare_models: int = 20
    compare_samples: int = 1_000_000
    compare_seeds: tuple[int, ...] = (1, 3)
    own_images: int = 10_000
    own_side: int = 32
    own_few: int = 200
    own_large_images: int = 23_000
    own_large_side: int = 256
    own_memory_limit: str = "1.5GB"
    own_epochs: int = 1


QUICK = Sizes(rounds=1, epochs=2, lenet=1_280, resnet=320, convolutions=3, transfer=200, transfer_rounds=1,
              transfer_epochs=2, tracking=1_280, tracking_rounds=1, tracking_epochs=2,
              search_rounds=1, search_train=1_000, search_val=500, search_trials=3, search_epochs=2,
              big_trials=200, scaling_trials=2, scaling_samples=1_280, scaling_epochs=1, sleepers=((1, 1), (2, 4)),
              sleeping_trials=4, compare_models=4, compare_samples=20_000,
              own_images=200, own_few=50, own_large_images=200)  # fmt: skip


class Opponent(NamedTuple):
    """A function to be measured, in a process of its own: see measure.py."""

    module: str
    function: str
    options: dict[str, Any]


def main() -> None:
    """Measures all and writes the page."""
    is_quick = "--quick" in sys.argv[1:]
    chosen = [name for name in sys.argv[1:] if name != "--quick"]
    if strange := set(chosen) - set(SECTIONS):
        sys.exit(f"expected --quick, or one of {', '.join(SECTIONS)}. Received: {', '.join(sorted(strange))}.")
    sizes = QUICK if is_quick else Sizes()
    page = PAGE.read_text(encoding="utf-8") if chosen else measure_training(sizes)
    for name in chosen or SECTIONS:
        page = put_section(page, SECTIONS[name](sizes, not is_quick))
    if is_quick:
        print(page)
        return
    PAGE.write_text(page, encoding="utf-8")
    print(f"Written to {PAGE}")


def measure_training(sizes: Sizes) -> str:
    """Measures trainings; returns the page without the sections that are measured by themselves."""
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
    return render_page(contests, sizes._asdict(), time.perf_counter() - began_s, max(others / in_all, 0.0))


def measure_scaling(sizes: Sizes, _is_kept: bool) -> str:
    """Measures a search on more and more workers; returns the section about it."""
    return render_scaling(take_turns(list_workers(sizes), 1), sizes._asdict())


def measure_search(sizes: Sizes, is_kept: bool) -> str:
    """Measures searches; returns their section, and keeps the raw numbers beside the page."""
    with TemporaryDirectory() as folder:
        races, big = run_races(folder, sizes), measure_big_study(folder, sizes)
    if is_kept:
        RAW.write_text(json.dumps(describe(races, big), indent=1) + "\n", encoding="utf-8")
    return render_search(races, big, sizes._asdict())


def run_races(folder: str, sizes: Sizes) -> list[Race]:
    """Has a plain search and Cotejo's take turns, each pair with a seed of its own."""
    images = {"folder": folder, "num_train": sizes.search_train, "num_val": sizes.search_val}
    measure(Opponent("search_race", "prepare", images))
    races: list[Race] = []
    for seed in range(sizes.search_rounds):
        task = {"folder": folder, "epochs": sizes.search_epochs, "seed": seed}
        plain = measure(Opponent("with_optuna", "search", {**task, "num_trials": sizes.search_trials}))
        # one that needs more has lost
        limits = {"num_trials": 10 * sizes.search_trials, "timeout_s": plain["total_time_s"]}
        ours = {**task, **limits, "target": plain["best"], "changes": {}}
        races.append(Race(seed, plain, measure(Opponent("search_race", "search", ours))))
        print(f"search {seed + 1}/{sizes.search_rounds}  {races[-1]}", file=sys.stderr, flush=True)
    return races


def measure_big_study(folder: str, sizes: Sizes) -> BigStudy:
    """Measures what a study of many trials costs, each part in a process of its own."""

    def ask(function: str, aims: str = "one", **options: Any) -> Measurement:  # noqa: ANN401 - see big_study.py
        task = {"path": f"{folder}/{aims}.log", "num_trials": sizes.big_trials, **options}
        found = measure(Opponent("big_study", function, task))
        print(f"{sizes.big_trials} trials  {function} {options}  {found}", file=sys.stderr, flush=True)
        return found

    ask("write", sampler="random")
    ask("write", "two", sampler="nsga2")
    resumed = {sampler: ask("resume", aims, sampler=sampler, num_batches=3) for sampler, aims in AIMS.items()}
    pruners = ("median", "hyperband", "successive_halving")
    return BigStudy(resumed, ask("draw"), {pruner: ask("judge", pruner=pruner) for pruner in pruners})


def measure_comparing(sizes: Sizes, _is_kept: bool) -> str:
    """Measures the statistics of many models on many images; returns the section about them."""
    found = {}
    for num_seeds in sizes.compare_seeds:
        with TemporaryDirectory() as folder:
            task = {"folder": folder, "num_seeds": num_seeds}
            written = {"num_models": sizes.compare_models, "num_samples": sizes.compare_samples}
            size_bytes = measure(Opponent("comparison_scale", "prepare", {**task, **written}))["size_bytes"]
            found[num_seeds] = {**measure(Opponent("comparison_scale", "compare", task)), "size_bytes": size_bytes}
        print(f"compare, seeds: {num_seeds}  {found[num_seeds]}", file=sys.stderr, flush=True)
    return render_comparing(found, sizes._asdict())


def measure_own_images(sizes: Sizes, _is_kept: bool) -> str:
    """Measures what pictures of one's own cost; returns the section about it."""

    def ask(function: str, num_images: int, side: int, **options: Any) -> Measurement:  # noqa: ANN401 - see own_images.py
        with TemporaryDirectory() as folder:
            task = {"folder": folder, "num_images": num_images, "side": side, **options}
            found = measure(Opponent("own_images", function, task))
        print(f"own images  {function}  {found}", file=sys.stderr, flush=True)
        return found

    prepared = ask("prepare", sizes.own_images, sizes.own_side)
    limits = {"memory_limit": sizes.own_memory_limit, "epochs": sizes.own_epochs}
    trained = ask("train", sizes.own_large_images, sizes.own_large_side, **limits)
    predicted = ask("predict", sizes.own_images, sizes.own_side, few=sizes.own_few)
    return render_own_images(prepared, trained, predicted, sizes._asdict())


#: Sections that can be measured by themselves, in the order of the page.
SECTIONS: dict[str, Callable[[Sizes, bool], str]] = {
    "scaling": measure_scaling,
    "search": measure_search,
    "comparing": measure_comparing,
    "own-images": measure_own_images,
}  # fmt: skip


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


def list_workers(sizes: Sizes) -> dict[str, Opponent]:
    """Searches on one worker and on two; and on many, whose trials sleep."""
    real = {
        "num_trials": sizes.scaling_trials, "num_samples": sizes.scaling_samples, "epochs": sizes.scaling_epochs
    }  # fmt: skip
    asleep = {"num_trials": sizes.sleeping_trials, "epochs": SLEEPING_EPOCHS, "epoch_s": SLEEPING_EPOCH_S}
    return {
        **{f"real {count} 4": Opponent("scaling", "search", {"num_workers": count, **real}) for count in (1, 2)},
        **{
            f"asleep {count} {at_once}": Opponent(
                "scaling", "simulate", {"num_workers": count, "parallel_trials": at_once, **asleep}
            )
            for count, at_once in sizes.sleepers
        },
    }


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
