import numpy as np
import pytest
from scipy import stats

from alexnet_cli.core.confusion import (
    ClassResult,
    Pair,
    attributed,
    class_results,
    confused_pairs,
    count_confusions,
    draw_confusions,
)
from alexnet_cli.core.intervals import wilson_interval
from alexnet_cli.core.plot import save_figure

TRUTH = np.array([0, 0, 0, 1, 1, 2, -1])
NAMED = np.array([0, 1, 1, 1, 0, 2, 2])
COUNTS = [[1, 2, 0], [1, 1, 0], [0, 0, 1]]


def test_counts_by_hand():
    """Rows are true classes, columns named ones; a picture without a truth is in none."""
    assert count_confusions(TRUTH, NAMED, 3).table().tolist() == COUNTS


def test_pairs_by_hand():
    """Pairs come by number; correct answers are no pair."""
    counted = count_confusions(TRUTH, NAMED, 3)
    assert confused_pairs(counted) == [Pair(0, 1, 2, 2 / 3), Pair(1, 0, 1, 1 / 2)]
    assert confused_pairs(counted, 1) == [Pair(0, 1, 2, 2 / 3)]


def test_class_results_by_hand():
    """Each class has its errors and what it is mistaken for; one without pictures is left out."""
    counts = count_confusions(TRUTH, NAMED, 4)
    top1 = np.array([1.0, 0, 0, 1, 0, 1, 0])
    top5 = np.array([1.0, 1, 0, 1, 0, 1, 0])
    results = class_results(counts, TRUTH, (top1, top5), ("a", "b", "c", "d"), ("A", "B", "C", "D"))
    assert [(one.class_id, one.name, one.images, one.mistaken_for, one.mistaken) for one in results] == [
        ("a", "A", 3, "b", 2),
        ("b", "B", 2, "a", 1),
        ("c", "C", 1, "", 0),
    ]
    assert [one.top1_error for one in results] == pytest.approx([2 / 3, 1 / 2, 0])
    assert [one.top5_error for one in results] == pytest.approx([1 / 3, 1 / 2, 0])
    assert isinstance(results[0], ClassResult)


def test_several_right_classes_count_for_the_named_one():
    """A picture of several right classes counts for the one that was named, else for the first."""
    right = np.array([[0, 2], [0, 2], [1, -1], [-1, -1]])
    assert attributed(right, np.array([2, 1, 1, 0])).tolist() == [2, 0, 1, -1]


@pytest.mark.parametrize(("wrong", "count"), [(0, 10), (3, 10), (157, 713), (20350, 50000), (50, 50)])
def test_intervals_are_scipys(wrong, count):
    """The interval is Wilson's, as SciPy computes it."""
    expected = stats.binomtest(wrong, count).proportion_ci(0.95, method="wilson")
    assert wilson_interval(wrong / count, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("classes", [3, 20, 60])
@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_pictures_by_ending(tmp_path, classes, ending):
    """Few classes give a table and many a list of pairs, in the format of the ending, twice the same bytes."""
    truth, named = np.random.default_rng(0).integers(0, classes, (2, 2000))
    counts = count_confusions(truth, named, classes)
    names = [rf"$\foo$ 猫 {k}, or so" for k in range(classes)]  # no formula, and no letter of the font
    for name in ("one", "two"):
        save_figure(draw_confusions(counts, names), tmp_path / f"{name}.{ending}")
    content = (tmp_path / f"one.{ending}").read_bytes()
    assert content[:5] == {"png": b"\x89PNG\r", "svg": b"<?xml", "pdf": b"%PDF-"}[ending]
    if ending == "png":
        assert content == (tmp_path / f"two.{ending}").read_bytes()


def test_many_classes_need_no_table():
    """Of 20,000 classes only the pairs are kept that were ever seen."""
    truth = np.arange(20_000)
    counted = count_confusions(truth, (truth + 1) % 20_000, 20_000)
    assert len(counted.count_P) == 20_000
    classes = [str(k) for k in range(20_000)]
    results = class_results(counted, truth, (np.zeros(20_000), np.zeros(20_000)), classes, classes)
    assert (results[7].mistaken_for, results[7].mistaken, results[-1].mistaken_for) == ("8", 1, "0")


def test_table_shows_shares():
    """The drawn table holds the share of each true class's pictures, in percent."""
    figure = draw_confusions(count_confusions(TRUTH, NAMED, 3), ["a", "b", "c"])
    drawn = np.asarray(figure.axes[0].images[0].get_array())
    assert drawn.tolist() == [pytest.approx(row) for row in ([100 / 3, 200 / 3, 0], [50, 50, 0], [0, 0, 100])]
