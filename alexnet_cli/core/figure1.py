"""The paper's figure 1: how fast four layers of ReLUs, and the same of tanh, learn pictures of 32x32 by heart."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from alexnet_cli.core.curves import first_epoch_at, training_errors
from alexnet_cli.core.errors import DivergedError, RunError
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.store import open_store
from alexnet_cli.core.train_job import TrainOptions
from alexnet_cli.core.trials import Trial, check_trials

LEVEL = 0.25  # P figure 1: the training error that both are timed to
Activation = Literal["relu", "tanh"]


@dataclass(frozen=True)
class Figure1Options:
    """What a user asks for.

    train: what all trainings have in common, the seed too. recipe: the network, with either activation. rates: learning rates to
    choose from, by activation, ReLU first; a single one is taken as it is. search_epochs: after so many the rate is chosen.
    """

    train: TrainOptions
    recipe: Recipe
    rates: Mapping[Activation, Sequence[float]]
    search_epochs: int


@dataclass(frozen=True)
class Learning:
    """How one activation learned.

    errors: training error of each epoch, 0-1. reached: the first epoch at LEVEL or below. searched: training error after the
    search by rate, None where the loss became no number; empty without a search.
    """

    activation: Activation
    learning_rate: float
    run: str
    errors: tuple[float, ...]
    reached: int | None
    searched: dict[float, float | None]


@dataclass(frozen=True)
class Figure1:
    """Both activations; none where a signal of that number stopped the trainings before their end."""

    learnings: tuple[Learning, ...]
    stopped_by: int = 0

    @property
    def ratio(self) -> float | None:
        """How many times as many epochs the second one took to LEVEL; None where one did not reach it."""
        first, second = (learning.reached for learning in self.learnings)
        return second / first if first and second else None


class _Stopped(Exception):
    """A training was stopped by this signal, and has saved."""

    def __init__(self, signal: int) -> None:
        self.signal = signal


def figure1(options: Figure1Options, reporter: Reporter | None = None) -> Figure1:
    """Choose each activation's learning rate and train it; what an earlier call has done is taken from there.

    The trainings that the rates are chosen by are the beginnings of whole ones: the chosen one goes on.
    Raises what `check_trials` raises before anything is trained, and what `train` raises later.
    """
    reporter = reporter or Reporter()
    options = replace(options, train=replace(options.train, log_every=1))
    trials = {activation: _trials(activation, rates, options) for activation, rates in options.rates.items()}
    check_trials([trial for group in trials.values() for trial in group.values()], options.train)
    try:
        return Figure1(tuple(_learn(activation, group, options, reporter) for activation, group in trials.items()))
    except _Stopped as stop:
        return Figure1((), stop.signal)


def _trials(activation: Activation, rates: Sequence[float], options: Figure1Options) -> dict[float, Trial]:
    seed = options.train.seed or 0
    return {
        rate: Trial(
            f"figure1-{activation}-{rate:g}-{seed}", replace(options.recipe, activation=activation, learning_rate=rate), seed
        )
        for rate in rates
    }


def _learn(activation: Activation, trials: Mapping[float, Trial], options: Figure1Options, reporter: Reporter) -> Learning:
    searched = _search(activation, trials, options, reporter) if len(trials) > 1 else {}
    rate = _best(activation, searched, reporter) if searched else next(iter(trials))
    reporter.note(f"{activation}: {options.recipe.epochs} epochs at {rate:g}")
    try:
        errors = _train(trials[rate], options, options.recipe.epochs, reporter)
    except DivergedError as error:
        raise DivergedError(f"{activation} at {rate:g}: {error}", hint=f"give it a lower --{activation}-rate") from error
    return Learning(activation, rate, trials[rate].run, errors, first_epoch_at(errors, LEVEL), searched)


def _search(
    activation: Activation, trials: Mapping[float, Trial], options: Figure1Options, reporter: Reporter
) -> dict[float, float | None]:
    epochs = min(options.search_epochs, options.recipe.epochs)
    found: dict[float, float | None] = {}
    for rate, trial in trials.items():
        reporter.note(f"{activation}: {epochs} epochs at {rate:g}, to choose a rate")
        try:
            found[rate] = _train(trial, options, epochs, reporter)[epochs - 1]
        except DivergedError as error:
            reporter.note(f"{activation} at {rate:g}: {error}")
            found[rate] = None
    return found


def _best(activation: Activation, searched: Mapping[float, float | None], reporter: Reporter) -> float:
    errors = {rate: math.inf if error is None else error for rate, error in searched.items()}
    best = min(errors, key=lambda rate: errors[rate])
    if math.isinf(errors[best]):
        raise RunError(f"with {activation} the loss became no number at every rate", hint="try lower ones with --rates")
    if best in (min(errors), max(errors)):
        reporter.warn(f"{activation} learned best at {best:g}, the end of the rates tried: there may be a better one beyond it")
    return best


def _train(trial: Trial, options: Figure1Options, epochs: int, reporter: Reporter) -> tuple[float, ...]:
    """Train up to the end of an epoch, unless it is over; return the errors of all epochs so far."""
    num_images, batch_size = len(open_store(options.train.data, "train")), trial.recipe.batch_size
    folder = trial.folder(options.train)
    errors = training_errors(folder, num_images, batch_size)
    if len(errors) < epochs or not folder.can_continue:
        limit = epochs * math.ceil(num_images / batch_size)
        stopped_by = trial.train(replace(options.train, limit_steps=limit), reporter).stopped_by
        if stopped_by:
            raise _Stopped(stopped_by)
        errors = training_errors(folder, num_images, batch_size)
    return errors
