"""The tables of the comparison: the page and its Markdown twin show the same ones, so that they can't disagree."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cotejo.comparison.records import Comparison, Model, Pair
from cotejo.comparison.verdict import judge_in_study
from cotejo.evaluation.selective import ANSWERED
from cotejo.report.figures.trust import list_corruptions
from cotejo.report.layout import Cell, Column, Row, Table
from cotejo.report.wording import MISSING, Wording, write_value
from cotejo.schema.results import ScoreColumn, list_columns


class _Tables:
    """Builds the tables, a method each.

    Args:
        comparison: The comparison.
        wording: The language.
        say: Fills in a text of the locale.
    """

    def __init__(self, comparison: Comparison, wording: Wording, say: Callable[..., str]) -> None:
        self.comparison, self.wording = comparison, wording
        self._words, self._say = wording.locale["columns"], say

    def models(self) -> Table:
        """Builds the table of every model's scores, with intervals over the test images."""
        return self._scores("models")

    def certainty(self) -> Table:
        """Each model's accuracy on new images by new trainings, and by these very trainings."""
        w, confidence = self.wording, self.comparison.models[0].confidence
        return self._by_model(
            [
                self._name("mean_accuracy"),
                self._name("own_interval", confidence=confidence),
                self._name("files_interval", confidence=confidence),
                self._name("seed_spread"),
                self._name("seeds"),
            ],
            lambda m: (
                Cell(w.percent(m.test_accuracy, 2), m.test_accuracy),
                self._range(w.percent, m.test_accuracy_low, m.test_accuracy_high, 2),
                self._range(w.percent, m.test_accuracy_files_low, m.test_accuracy_files_high, 2),
                Cell(MISSING if m.seed_spread is None else w.points(m.seed_spread), m.seed_spread),
                Cell(w.integer(len(m.seeds)), len(m.seeds)),
            ),
        )

    def pairs(self) -> Table:
        """Every pair with its interval and the decision."""
        w, comparison = self.wording, self.comparison

        def decide(pair: Pair) -> Cell:
            finding = judge_in_study(comparison, pair)
            return Cell(self._say(w.locale["decisions"][finding.key], **finding.values))

        return self._by_pair(
            [
                self._name("difference_interval", confidence=comparison.confidence),
                self._name("p_adjusted"),
                Column(self._words["decision"], is_number=False),
            ],
            lambda p: (
                self._between(w.signed_points, p.value, p.low, p.high, 2),
                Cell(w.p_value(p.p_adjusted), p.p_adjusted),
                decide(p),
            ),
        )

    def more_pairs(self) -> Table:
        """Builds the table of pairs: parts of the uncertainty, what could have been found, whether both are as good."""
        w, comparison = self.wording, self.comparison
        return self._by_pair(
            [
                self._name(key, margin=comparison.margin, confidence=comparison.confidence)
                for key in ("files_difference", "image_share", "p_value", "detectable", "equivalence_p_adjusted")
            ],
            lambda p: (
                self._range(w.signed_points, p.files_low, p.files_high, 2),
                Cell(w.percent(p.image_share, 0), p.image_share),
                Cell(w.p_value(p.p_value), p.p_value),
                self._range(w.points, p.detectable, p.detectable_high, 2),
                Cell(w.p_value(p.equivalence_p_adjusted), p.equivalence_p_adjusted),
            ),
        )

    def mcnemar(self) -> Table:
        """McNemar's exact test of every two trainings with the same place in the order of seeds."""
        w = self.wording
        names = ("seed_first", "seed_second", "only_first", "only_second", "p_value")
        rows = tuple(
            Row(
                self.wording.pair(pair.candidate, pair.baseline),
                (
                    Cell(str(row.seed_candidate), row.seed_candidate),
                    Cell(str(row.seed_baseline), row.seed_baseline),
                    Cell(w.integer(row.only_candidate), row.only_candidate),
                    Cell(w.integer(row.only_baseline), row.only_baseline),
                    Cell(w.p_value(row.p_value), row.p_value),
                ),
                is_chosen=number == 0,
            )
            for number, pair in enumerate(self.comparison.pairs)
            for row in pair.mcnemar
        )
        return Table((self._head("pair"), *(self._name(name) for name in names)), rows)

    def cost(self) -> Table:
        """Builds the table of every model's costs."""
        w, words = self.wording, self._words
        names = ("train_time", "epoch_time", "latency", "throughput", "parameters", "operations", "size", "memory")
        return self._by_model(
            [self._name(name) for name in names],
            lambda m: (
                self._between_seeds(m),
                Cell(w.duration(m.epoch_time_s), m.epoch_time_s),
                Cell(
                    w.duration(m.latency_p50_s),
                    m.latency_p50_s,
                    "" if m.latency_p95_s is None else f"{words['p95']} {w.duration(m.latency_p95_s)}",
                ),
                Cell(w.integer(m.throughput_images_per_s), m.throughput_images_per_s),
                Cell(
                    w.integer(m.parameters),
                    m.parameters,
                    ""
                    if m.trainable_parameters == m.parameters
                    else f"{words['trainable']} {w.integer(m.trainable_parameters)}",
                ),
                Cell(w.compact(m.operations), m.operations),
                Cell(w.size(m.size_bytes), m.size_bytes),
                Cell(w.size(m.peak_memory_bytes), m.peak_memory_bytes),
            ),
        )

    def trust(self) -> Table:
        """Builds the table of every model's calibration, and of what corrupted images cost it."""
        return self._scores("trust")

    def robustness(self) -> Table:
        """The accuracy of every model at every severity of every corruption."""
        w, models = self.wording, self.comparison.models
        severities = sorted({row.severity for row in models[0].robustness})
        columns = (
            self._head("model"),
            Column(self._words["corruption"], is_number=False),
            *(self._name("severity", severity=severity) for severity in severities),
        )
        rows = []
        for model in models:
            found = {(row.corruption if row.severity else "", row.severity): row for row in model.robustness}
            for corruption in list_corruptions(model.robustness):
                shown = [found[corruption if severity else "", severity] for severity in severities]
                cells = tuple(self._between(w.percent, row.accuracy, row.low, row.high, 1) for row in shown)
                rows.append(
                    Row(
                        w.model(model.name),
                        (Cell(w.locale["corruptions"][corruption]), *cells),
                        self._is_chosen(model.name),
                    )
                )
        return Table(columns, tuple(rows))

    def seeds(self) -> Table:
        """Every training."""
        w = self.wording
        names = (
            "seed",
            "accuracy",
            "test_loss",
            "ece",
            "temperature",
            "epochs",
            "best_epoch",
            "min_val_epoch",
            "final_gap",
        )
        rows = tuple(
            Row(
                w.model(model.name),
                (
                    Cell(str(seed.seed), seed.seed),
                    Cell(w.percent(seed.test_accuracy, 2), seed.test_accuracy),
                    Cell(w.number(seed.test_loss, 3), seed.test_loss),
                    Cell(w.number(seed.test_ece, 3), seed.test_ece),
                    Cell(w.number(seed.temperature, 2), seed.temperature),
                    Cell(w.integer(seed.epochs), seed.epochs),
                    Cell(w.integer(seed.best_epoch), seed.best_epoch),
                    Cell(w.integer(seed.min_val_epoch), seed.min_val_epoch),
                    Cell(w.signed(seed.final_gap), seed.final_gap),
                ),
                self._is_chosen(model.name),
            )
            for model in self.comparison.models
            for seed in model.seeds
        )
        return Table((self._head("model"), *(self._name(name) for name in names)), rows)

    def classes(self) -> Table:
        """F1 of every class, for the verdict's pair."""
        w, comparison = self.wording, self.comparison
        columns = (
            self._head("class"),
            self._name("support"),
            self._name("f1", model=comparison.baseline),
            self._name("f1", model=comparison.candidate),
            self._name("f1_difference", confidence=comparison.confidence),
        )
        rows = tuple(
            Row(
                d.class_name,
                (
                    Cell(w.integer(d.support), d.support),
                    Cell(w.number(d.baseline, 3), d.baseline),
                    Cell(w.number(d.candidate, 3), d.candidate),
                    self._between(w.signed, d.value, d.low, d.high, 3)._replace(is_clear=d.is_clear),
                ),
            )
            for d in comparison.differences
        )
        return Table(columns, rows)

    def splits(self) -> Table:
        """Builds the table of the data's three splits."""
        locale, splits = self.wording.locale, self.comparison.dataset["splits"]
        columns = (
            self._head("split"),
            self._name("images"),
            Column(locale["data"]["digest"], is_number=False, is_code=True),
        )
        rows = (
            Row(
                locale["data"]["splits"][name],
                (Cell(self.wording.integer(split["num_samples"]), split["num_samples"]), Cell(split["digest"][:16])),
            )
            for name, split in splits.items()
        )
        return Table(columns, tuple(rows))

    def params(self) -> Table:
        """Builds the table of every parameter."""
        columns = (self._head(key)._replace(is_code=True) for key in ("parameter", "value"))
        rows = (Row(key, (Cell(write_value(value)),)) for key, value in self.comparison.facts["params"].items())
        return Table(tuple(columns), tuple(rows))

    def _scores(self, table: str) -> Table:
        """Returns the scores that are declared to be a table's columns, each with its interval where it has one."""
        first, scores = self.comparison.models[0], list_columns(table)
        values = {"confidence": first.confidence, "sample_size": first.sample_size, "coverage": ANSWERED}
        return self._by_model(
            [self._name(column.heading, **values) for column in scores.values()],
            lambda m: tuple(self._score(m, name, column) for name, column in scores.items()),
        )

    def _score(self, model: Model, name: str, column: ScoreColumn) -> Cell:
        say, value = getattr(self.wording, column.form), getattr(model, name)
        low, high = (getattr(model, f"{name}_{end}", None) for end in ("low", "high"))
        note = "" if low is None else self._range(say, low, high, column.digits).text
        return Cell(say(value, column.digits), value, note)

    def _by_model(self, columns: Sequence[Column], fill: Callable[[Model], tuple[Cell, ...]]) -> Table:
        rows = (Row(self.wording.model(m.name), fill(m), self._is_chosen(m.name)) for m in self.comparison.models)
        return Table((self._head("model"), *columns), tuple(rows))

    def _by_pair(self, columns: Sequence[Column], fill: Callable[[Pair], tuple[Cell, ...]]) -> Table:
        pairs = self.comparison.pairs
        rows = (
            Row(self.wording.pair(pair.candidate, pair.baseline), fill(pair), is_chosen=pair is pairs[0])
            for pair in pairs
        )
        return Table((self._head("pair"), *columns), tuple(rows))

    def _is_chosen(self, name: str) -> bool:
        return name in (self.comparison.baseline, self.comparison.candidate)

    def _head(self, key: str) -> Column:
        return Column(self._words[key], is_number=False)

    def _name(self, key: str, **values: Any) -> Column:  # noqa: ANN401
        return Column(self._say(self._words[key], **values))

    def _between(self, say: Callable[[float, int], str], value: float, low: float, high: float, digits: int) -> Cell:
        return Cell(say(value, digits), value, self._range(say, low, high, digits).text)

    def _between_seeds(self, m: Model) -> Cell:
        """Formats a training time with those of the fastest and the slowest seed, which show how noisy clocks are."""
        w = self.wording
        cell = Cell(w.duration(m.train_time_s), m.train_time_s)
        if m.train_time_low_s is None or m.train_time_high_s is None or len(m.seeds) == 1:
            return cell
        between = (w.duration(m.train_time_low_s), w.locale["number"]["to"], w.duration(m.train_time_high_s))
        return cell._replace(note=" ".join(between))

    def _range(self, say: Callable[[float, int], str], low: float | None, high: float | None, digits: int) -> Cell:
        if low is None or high is None:
            return Cell(MISSING)
        return Cell(f"{say(low, digits)} {self.wording.locale['number']['to']} {say(high, digits)}", low)


def build_tables(comparison: Comparison, wording: Wording, say: Callable[..., str]) -> dict[str, Table]:
    """Builds the report's tables by name.

    Args:
        comparison: The comparison.
        wording: The language.
        say: Fills in a text of the locale: `say(text, **values)`.
    """
    return dict(_list_tables(_Tables(comparison, wording, say)))


def _list_tables(tables: _Tables) -> Iterator[tuple[str, Table]]:
    for build in (
        tables.models,
        tables.certainty,
        tables.pairs,
        tables.more_pairs,
        tables.mcnemar,
        tables.cost,
        tables.trust,
        tables.robustness,
        tables.seeds,
        tables.classes,
        tables.splits,
        tables.params,
    ):
        yield build.__name__, build()
