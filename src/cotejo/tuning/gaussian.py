"""Proposals by a Gaussian process: the next trial is where the best values so far are expected to be improved most.

It learns how the metric depends on the values, and how sure it is of that, so it needs few trials. Pruned ones teach it
too, and of failed ones it keeps away. Optuna's own sampler of this kind needs PyTorch.

References:
    Jones, Schonlau and Welch (1998), Efficient global optimization of expensive black-box functions, Journal of Global
    Optimization 13 (expected improvement). Ginsbourger, Le Riche and Carraro (2010), Kriging is well-suited to
    parallelize optimization (believing in running trials). Picheny, Wagner and Ginsbourger (2013), A benchmark of
    kriging-based infill criteria for noisy optimization (the best predicted value as the one to be improved).
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Kernel, WhiteKernel
from threadpoolctl import threadpool_limits

from cotejo.schema.searches import Search
from cotejo.tuning.space import Space, encode, has_all, locate, place

#: Trials to begin with: the declared values, and points that fill the space evenly.
NUM_EVEN = 8
#: Trials that are modelled at most; the time grows with the cube of their number.
MOST_MODELLED = 300
#: How many of them are the best.
NUM_BEST = 100
#: Points that are drawn from the whole space for each proposal.
NUM_DRAWN = 1500
#: Points that are drawn near each of the best trials.
NUM_NEAR = 60
#: The number of these best trials.
NUM_CENTRES = 5
#: How far from a centre the near points lie, in shares of a dimension (half a step, where that is more).
NEAR = 0.1
#: How often the near points have another choice.
CHANCE_OF_CHOICE = 0.25
#: No error or loss is taken for less than that: its logarithm would hide all others.
LEAST = 1e-4


class Surrogate(NamedTuple):
    """Gaussian process fitted to the trials before a batch.

    Attributes:
        space: The search space.
        points: Points of the modelled trials, trial by dimension, each from 0 to 1.
        losses: Logarithms of their errors, those of bad ones cut, standardized.
        variances: How unsure each of them is, beside the noise that all have.
        kernel: The covariance that suits them.
        centres: The values of the best trials.
    """

    space: Space
    points: NDArray[np.float64]
    losses: NDArray[np.float64]
    variances: NDArray[np.float64]
    kernel: Kernel
    centres: list[Mapping[str, Any]]


def fit(search: Search, trials: Sequence[FrozenTrial], seed: int) -> Surrogate | None:
    """Learns from trials.

    Args:
        search: The `search` section.
        trials: All before the batch.
        seed: Seed of the choice among more trials than can be modelled.

    Returns:
        None where no two trials that ended have different values.
    """
    trials = [trial for trial in trials if has_all(trial.params, search.space)]
    losses, variances = _measure_losses(search, trials)
    order = np.argsort(losses, kind="stable")
    if len(order) > MOST_MODELLED:
        drawn = np.random.default_rng(seed).choice(order[NUM_BEST:], MOST_MODELLED - NUM_BEST, replace=False)
        order = np.concatenate([order[:NUM_BEST], np.sort(drawn)])
    ended = np.sort(losses[np.isfinite(losses)])
    if not len(ended) or ended[0] == ended[-1]:
        return None
    best, middle = ended[0], np.median(ended)
    # how bad a bad trial is teaches nothing of where the good ones lie
    losses = np.minimum(losses, middle + 2 * (middle - best) if best < middle else ended[-1])[order]
    scale = losses.std() or 1.0  # those that are modelled may all be alike
    points = np.array([encode(trials[index].params, search.space) for index in order])
    losses, variances = (losses - losses.mean()) / scale, variances[order] / scale**2
    kernel = ConstantKernel(1.0, (0.05, 20.0)) * RBF(np.full(points.shape[1], 0.5), (0.1, 10.0)) + WhiteKernel(
        0.1, (1e-3, 1.0)
    )
    with threadpool_limits(1, "blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a dimension without effect ends at its bound
        process = GaussianProcessRegressor(kernel, alpha=1e-8 + variances).fit(points, losses)
    centres = [trials[index].params for index in order[: min(NUM_CENTRES, len(ended))]]
    return Surrogate(search.space, points, losses, variances, process.kernel_, centres)


def propose(model: Surrogate, running: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """Returns the values with the largest expected improvement.

    Args:
        model: What `fit` has learnt.
        running: The values of the batch's other trials, which are believed to end as predicted and aren't proposed
            again unless there is nothing else.
        seed: Seed of the candidate points.
    """
    drawn = list(_draw(model, np.random.default_rng(seed)))
    drawn = [values for values in drawn if values not in running] or drawn
    candidates = np.array([encode(values, model.space) for values in drawn])
    points, losses, variances = model.points, model.losses, model.variances
    with threadpool_limits(1, "blas"):
        process = _condition(model.kernel, points, losses, variances)
        if running:
            believed = np.array([encode(values, model.space) for values in running])
            points = np.concatenate([points, believed])
            losses = np.concatenate([losses, process.predict(believed)])
            variances = np.concatenate([variances, np.zeros(len(running))])
            process = _condition(model.kernel, points, losses, variances)
        mean, spread = process.predict(candidates, return_std=True)
        best = process.predict(points).min()
    # the process tells the spread of a training; that of the values themselves is without its noise
    spread = np.sqrt(np.maximum(spread**2 - model.kernel.k2.noise_level, 1e-12))
    return drawn[int(compute_improvement(best, mean, spread).argmax())]


def compute_improvement(best: float, mean: NDArray[np.float64], spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns by how much normal variables are expected to lie below the best loss, counting 0 where they don't."""
    gain = (best - mean) / spread
    improvement: NDArray[np.float64] = spread * (gain * norm.cdf(gain) + norm.pdf(gain))
    return improvement


def _condition(
    kernel: Kernel, points: NDArray[np.float64], losses: NDArray[np.float64], variances: NDArray[np.float64]
) -> GaussianProcessRegressor:
    return GaussianProcessRegressor(kernel, alpha=1e-8 + variances, optimizer=None).fit(points, losses)


def _draw(model: Surrogate, generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Draws values from the whole space, and near the best trials."""
    space = model.space
    for places in generator.random((NUM_DRAWN, len(space))):
        yield place(places, space)
    is_choice = np.array([dimension.type == "choice" for dimension in space.values()])
    half_steps = (0.5 / len(dimension.points) if dimension.points else 0.0 for dimension in space.values())
    distances = np.array([max(NEAR, half_step) for half_step in half_steps])
    for centre in model.centres:
        for _ in range(NUM_NEAR):
            fresh = generator.random(len(space))
            near = locate(centre, space, fresh)
            moved = np.abs(near + distances * generator.standard_normal(len(space)))
            moved = np.where(moved > 1, 2 - moved, moved)
            changes = generator.random(len(space)) < CHANCE_OF_CHOICE
            yield place(np.where(is_choice, np.where(changes, fresh, near), moved), space)


def _measure_losses(search: Search, trials: Sequence[FrozenTrial]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the logarithm of each trial's error and its variance: infinity for one that has failed.

    A pruned trial is taken to its end by what the completed ones have gained from its last epoch on.
    """
    completed = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    gains: dict[int, list[float]] = {}
    for trial in completed:
        end = _measure_loss(search, trial.value)
        for epoch, value in trial.intermediate_values.items():
            gains.setdefault(epoch, []).append(end - _measure_loss(search, value))
    mean = {epoch: float(np.mean(found)) for epoch, found in gains.items()}
    # of a few gains the variance says little
    variance = {epoch: float(np.var(found)) for epoch, found in gains.items() if len(found) > 2}
    losses, variances = np.full(len(trials), np.inf), np.zeros(len(trials))
    for index, trial in enumerate(trials):
        if trial.state == TrialState.COMPLETE:
            losses[index] = _measure_loss(search, trial.value)
        elif trial.state == TrialState.PRUNED and trial.intermediate_values:
            epoch = max(trial.intermediate_values)
            losses[index] = _measure_loss(search, trial.intermediate_values[epoch]) + mean.get(epoch, 0.0)
            variances[index] = variance.get(epoch, 0.0)
    return losses, variances


def _measure_loss(search: Search, value: float) -> float:
    return float(np.log(max(1 - value if search.direction == "maximize" else value, LEAST)))
