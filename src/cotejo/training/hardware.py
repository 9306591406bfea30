"""Configures TensorFlow for the declared hardware."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import psutil
import tensorflow as tf

from cotejo.execution.messages import Setup
from cotejo.lineage.tags import find_cpu_name
from cotejo.schema.study import MIN_MEMORY
from cotejo.upstream import seeding_layers

#: The largest array that is copied into the graph where memory has no limit.
MAX_BYTES_IN_GRAPH = 2**30


class Hardware(NamedTuple):
    """Hardware of a training.

    Attributes:
        device: `CPU`, `GPU` or such as `2 GPUs`.
        threads: Threads of TensorFlow on the CPU.
        num_parts: Parts into which a batch is split, to be trained in parallel with one thread each.
        precision: Keras's dtype policy.
        strategy: How variables and batches are spread over GPUs.
        memory_bytes: What the process may take; None for any.
    """

    device: str
    threads: int
    num_parts: int
    precision: str
    strategy: tf.distribute.Strategy
    memory_bytes: int | None = None

    @property
    def max_bytes_in_graph(self) -> int:
        """The largest array that is copied into the graph; a larger one stays on the disk and is read batch by batch.

        Of the memory that is left beside TensorFlow and a net, a quarter: training and validation images are copied,
        and for a moment there are two of each.
        """
        if self.memory_bytes is None:
            return MAX_BYTES_IN_GRAPH
        return min(MAX_BYTES_IN_GRAPH, max(self.memory_bytes - MIN_MEMORY, 0) // 4)


def configure_hardware(setup: Setup) -> Hardware:
    """Configures TensorFlow so that results depend on the seed and the declared hardware alone; before any other use.

    Small nets spend much of their time waiting for the slower of two threads at the end of each operation. Where the
    result allows it, each thread gets a part of the batch instead and they meet once a step.

    Args:
        setup: Threads, precision, and whether a batch may be split.
    """
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    num_parts = setup.threads if setup.split_batch and not gpus else 1
    tf.config.threading.set_intra_op_parallelism_threads(1 if num_parts > 1 else setup.threads)
    tf.config.threading.set_inter_op_parallelism_threads(setup.threads)
    tf.config.experimental.enable_op_determinism()
    tf.get_logger().setLevel("ERROR")  # a new model per seed and trial is meant to be traced anew
    keras.config.set_dtype_policy(setup.precision)
    strategy = tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()
    device = {0: "CPU", 1: "GPU"}.get(len(gpus), f"{len(gpus)} GPUs")
    return Hardware(device, setup.threads, num_parts, setup.precision, strategy, setup.memory_bytes)


@contextmanager
def building(seed: int, hardware: Hardware) -> Iterator[None]:
    """Seeds what is built meanwhile: first weights depend on the seed alone, not on the models built before."""
    keras.utils.clear_session()  # layers are numbered from the start; it also forgets the precision
    keras.config.set_dtype_policy(hardware.precision)
    keras.utils.set_random_seed(seed)
    with seeding_layers(seed), hardware.strategy.scope():
        yield


def describe_hardware(hardware: Hardware) -> dict[str, Any]:
    """Returns what a clock's numbers have to be read with: machine, device, threads."""
    return {
        "machine": f"{find_cpu_name()}, {psutil.cpu_count()} cores",
        "device": hardware.device,
        "threads": hardware.threads,
    }


def measure_peak_memory() -> int:
    """Returns the largest resident memory that this process has had so far, in bytes."""
    memory = psutil.Process().memory_info()
    if peak_bytes := getattr(memory, "peak_wset", 0):  # Windows
        return int(peak_bytes)
    import resource  # not there on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def check_memory(name: str, memory_bytes: int | None, lower: str, say: Callable[[str], None]) -> None:
    """Warns if a net and its batches, which can't stay on the disk as images do, have taken too much memory.

    Args:
        name: Name of the training or stage.
        memory_bytes: What this process may take; None for any.
        lower: The parameters to lower, so that it takes less.
        say: Receives the warning.
    """
    peak_bytes = measure_peak_memory()
    if memory_bytes is not None and peak_bytes > memory_bytes:
        say(
            f"warning: {name}: expected to stay under {memory_bytes / 1e9:.2f} GB, this process's share of "
            f"runtime.memory_limit. Received: {peak_bytes / 1e9:.2f} GB. Lower {lower}, or raise the limit."
        )
