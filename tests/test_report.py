"""The report on a training."""

import json
import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from alexnet_cli.cli.app import app
from alexnet_cli.core.kernel_history import keep_kernels
from alexnet_cli.core.recipes import tiny
from alexnet_cli.core.report import BUILDERS, make_report
from alexnet_cli.core.report_inside import spread, unit_name
from alexnet_cli.core.report_page import to_html
from alexnet_cli.core.report_parts import TITLES, Absent, Report, Section
from alexnet_cli.core.report_sources import ReportOptions
from alexnet_cli.core.units import layer_units
from tests.html_pages import Page, require_sound
from tests.networks import narrow_small
from tests.runs import CLASSES, HOSTILE, LABELS, PROBABILITIES, ROWS, WORDS, Run, known_weights, make_run
from tests.stores import write_store

pytest.importorskip("matplotlib")
LATER = frozenset({"units", "similar", "towers"})  # each has tests of its own


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A finished run with its store."""
    return make_run(tmp_path_factory.mktemp("run"))


def options(run: Run, **changes: Any) -> ReportOptions:
    """Return what to ask for, on the CPU."""
    return replace(ReportOptions(run.folder, run.data, crops=1, device="cpu", precision="fp32", without=LATER), **changes)


def page_of(run: Run, **changes: Any) -> Page:
    """Return the report's page, read."""
    page = Page(to_html(make_report(options(run, **changes))))
    require_sound(page)
    return page


@pytest.fixture(scope="module")
def page(run) -> Page:
    """The page of the finished run."""
    return page_of(run)


def reasons(run: Run, **changes: Any) -> dict[str, str]:
    """Return why sections are not there."""
    report = make_report(options(run, **changes))
    return {one.key: one.content.reason for one in report.sections if isinstance(one.content, Absent)}


def test_every_section_has_a_title_and_a_builder() -> None:
    """The sections of the command line are those that are built."""
    assert list(TITLES) == list(BUILDERS)


def test_headline_figures(page):
    """Six pictures of which three are owls, all named owl: half are wrong; parameters are counted by hand."""
    shapes = known_weights().tensors.values()
    facts = page.facts("glance")
    assert facts["top-1 error, val"] == "50.00 %" and facts["top-3 error, val"] == "0.00 %"
    assert facts["parameters"] == f"{sum(math.prod(value.shape) for value in shapes):,}"
    assert (facts["epochs"], facts["steps"], facts["state"], facts["classes"]) == ("2 of 2", "8", "finished", "3")
    assert facts["weights"] == "best.safetensors, of step 8 (epoch 2)"


def test_results_by_hand(page):
    """The loss is the mean of -log of what the true class has; Wilson's interval of 3 in 6 is 18.8 to 81.2."""
    (table,) = page.tables("results")
    loss = sum(-math.log(PROBABILITIES[label]) for label in LABELS) / len(LABELS)
    assert table[1] == ["this run", "50.00 % (18.8 to 81.2)", "0.00 % (0.0 to 39.0)", f"{loss:.4f}"]
    assert "40.7 % top-1 and 18.2 % top-5" in page.section("results").text


@pytest.mark.parametrize("with_store", [True, False])
def test_best_of_several_epochs_is_said_to_look_better(run, tmp_path, with_store):
    """Errors on the pictures that chose the best epoch are said to be too low; not after one test, nor of the last weights."""
    one = make_run(tmp_path, rows=ROWS[:4])
    last = make_run(tmp_path / "last")
    last.folder.best.rename(last.folder.last)
    found = []
    for chosen in (run, one, last):
        found.append(page_of(chosen, data=chosen.data if with_store else None).section("results").text)
    assert ["The best of 2 epochs was chosen by these" in text for text in found] == [True, False, not with_store]


def test_classes_by_hand(page):
    """Owls are always right, cats and dogs never; all are among three of three. A class has its first name."""
    (table,) = page.tables("classes")
    assert table[1:] == [
        ["owl", "100.0 %", "100.0 %", "3", "-"],
        ["cat", "0.0 %", "100.0 %", "2", "owl (2)"],
        ["dog", "0.0 %", "100.0 %", "1", "owl (1)"],
    ]
    bars = [one.attributes["style"] for one in page.within(page.section("classes"), "td") if "style" in one.attributes]
    assert bars == ["--share:1.0000", "--share:1.0000", "--share:0.0000", "--share:1.0000", "--share:0.0000", "--share:1.0000"]


def test_confusions_by_hand(page):
    """Two cats and a dog are named owl; the shades are shares of a row."""
    table, pairs = page.tables("confusions")
    assert table == [["", "cat", "dog", "owl"], ["cat", "", "", "2"], ["dog", "", "", "1"], ["owl", "", "", "3"]]
    assert pairs[1:] == [["cat", "owl", "2", "100.0 %"], ["dog", "owl", "1", "100.0 %"]]


def test_answers_show_every_picture(page):
    """Of three pictures that are right and three that are wrong all are shown, with the probabilities of each class."""
    section = page.section("answers")
    assert [one.text for one in page.within(section, "h3")] == ["Named right", "Named wrong"]
    truths = [one.text for one in page.within(section, "p") if one.parents[-1].tag == "li"]
    assert truths == ["owl"] * 3 + ["cat", "cat", "dog"]
    cards = [one.text for one in page.within(section, "ol")]
    assert cards == ["owl ✓ 57 % dog 29 % cat 14 %"] * 3 + ["owl 57 % dog 29 % cat ✓ 14 %"] * 2 + ["owl 57 % dog ✓ 29 % cat 14 %"]
    assert all(one.attributes["src"].startswith("data:image/jpeg;base64,") for one in page.within(section, "img"))


def test_curves_and_their_numbers(page):
    """Both curves are drawn, and the table has the means of the logged steps of each epoch and the test after it."""
    section = page.section("curves")
    labels = [one.attributes["aria-label"] for one in page.within(section, "svg")]
    assert labels == [
        "Curves of the top-1 error: training from 75.0 % to 25.0 %; validation from 25.0 % to 37.5 %.",
        "Curves of the loss: training from 1.500 to 0.500; validation from 0.900 to 0.800.",
    ]
    (table,) = page.tables("curves")
    assert table[1:] == [
        ["1", "4", "62.50 %", "1.250", "25.00 %", "12.50 %", "0.900"],
        ["2", "8", "25.00 %", "0.500", "37.50 %", "6.25 %", "0.800"],
    ]


def test_recipe_is_told_as_the_recipes_are(page):
    """The table has the fields in which the run differs from original, with the values that `alexnet recipes` writes."""
    (table,) = page.tables("recipe")
    found = {row[0]: row[1:] for row in table[1:]}
    assert found["epochs"] == ["2", "91"] and found["colour_noise"] == ["0.0", "0.1"]
    shown = re.search(r"^events  +(.*?)  +(.*)$", CliRunner().invoke(app, ["recipes", "small"]).stdout, re.MULTILINE)
    assert shown is not None and found["events"] == list(shown.groups())


def test_data_and_machine(page):
    """The store's splits and the newest state's environment are told; speed is the median of the log."""
    assert page.tables("data")[0][1:] == [["val", "6", "3", "1", "3"]]
    facts = page.facts("machine")
    assert (facts["seed"], facts["torch"], facts["device"]) == ("7", "9.9.9", "cpu Abacus")
    assert facts["pictures a second"] == "20.0, the median of the logged steps"


def test_first_layer_has_a_pixel_for_each_weight(page):
    """Eight kernels of 11 pixels in two rows, one for each tower, with black between: 49 wide, 27 high, unenlarged."""
    (picture,) = page.within(page.section("filters"), "img")
    assert (picture.attributes["width"], picture.attributes["height"], picture.attributes["class"]) == ("49", "27", "pixels")


def test_every_part_is_in_the_contents(page):
    """What is there is linked in the order of the page, what is not there says why at its end."""
    links = [one.attributes["href"] for one in page.within(page.all("nav")[0], "a")]
    assert links == [f"#{one.attributes['id']}" for one in page.all("section")]
    assert page.facts("absent") == {TITLES[key]: f"left out by --without {key}" for key in TITLES if key in LATER}


def test_same_inputs_give_the_same_bytes(run):
    """Two reports on a run are equal to the byte."""
    assert to_html(make_report(options(run))) == to_html(make_report(options(run)))


def test_without_a_store(run):
    """Sections about pictures say what would add them; the errors are those of the training's own tests, the best first."""
    page = page_of(run, data=None)
    assert page.facts("glance")["top-1 error, best epoch"] == "25.00 %"
    assert page.tables("results")[0][1:] == [
        ["best, 1", "25.00 %", "12.50 %", "0.9000"],
        ["last, 2", "37.50 %", "6.25 %", "0.8000"],
    ]
    found = reasons(run, data=None)
    assert found["classes"] == "no store was given; --data FOLDER adds the accuracy of each class"
    assert found["data"] == "no store was given; --data FOLDER adds what is in its splits; the run was trained on data"


def test_pictures_without_labels(tmp_path):
    """A split of which no class is known has no errors to tell; the rest of the report is there, and the training's own tests."""
    run = make_run(tmp_path)
    images = [np.full((256, 256, 3), 40 * index, np.uint8) for index in range(3)]
    write_store(run.data / "test", images, [0, -1, -1], CLASSES, format="jpeg", words=list(WORDS))
    found = reasons(run, split="test", without=LATER - {"similar"})
    assert {found[key] for key in ("classes", "confusions", "answers")} == {f"{run.data / 'test'} has pictures without labels"}
    assert not found.keys() & {"results", "similar", "data", "glance"}


def test_sections_can_be_left_out(run):
    """What is left out is not computed: without all that asks the weights, no picture is looked at."""
    report = make_report(options(run, without=frozenset(TITLES) - {"glance"}, split="val"))
    assert [one.key for one in report.sections if not isinstance(one.content, Absent)] == ["glance"]
    assert page_of(run, without=frozenset(TITLES) - {"glance"}).facts("glance")["top-1 error, best epoch"] == "25.00 %"


def test_hostile_names(tmp_path):
    """Names of classes that are HTML, or cannot be printed, stand in the page as texts."""
    run = make_run(tmp_path, words=HOSTILE)
    (tmp_path / "runs" / "first").rename(tmp_path / "runs" / "<b>")
    content = to_html(make_report(options(Run(replace(run.folder, path=tmp_path / "runs" / "<b>"), run.data))))
    page = Page(content)
    require_sound(page)
    assert page.all("h1")[0].text == "<b>"
    names = [row[0] for row in page.tables("classes")[0][1:]]
    assert sorted(names) == sorted([HOSTILE[0], HOSTILE[1], "???"])
    assert "<script" not in content and "onerror=alert(2)>" not in content
    content.encode("utf-8")


def test_many_classes_are_drawn(tmp_path):
    """More classes than a table of counts can hold become a drawing, whose names are texts too; more than 50 the pairs alone."""
    from alexnet_cli.core.confusion import count_confusions
    from alexnet_cli.core.report_answers import shown_confusions

    for classes, kinds in ((15, ["Heat", "Table"]), (16, ["Drawings", "Table"]), (51, ["Table"])):
        counts = count_confusions(np.arange(classes), np.roll(np.arange(classes), 1), classes)
        parts = shown_confusions(counts, [f"<script>{one}" for one in range(classes)])
        assert [type(part).__name__ for part in parts] == kinds
        content = to_html(Report("run", (Section("confusions", parts),), "alexnet 0"))
        require_sound(Page(content))
        assert "&lt;script&gt;7" in content


def test_run_in_its_first_epoch(tmp_path):
    """A run without a test and without weights, whose last line is being written, is reported on as far as it is."""
    run = make_run(tmp_path, rows=ROWS[:1], ending='{"kind": "st', with_weights=False)
    page, found = page_of(run), reasons(run)
    assert page.facts("glance")["state"] == "under way or stopped in epoch 1 of 2; what follows is as of step 2"
    assert page.facts("glance")["epochs"] == "0 of 2"
    assert page.within(page.section("curves"), "svg")[0].attributes["aria-label"].endswith("75.0 % to 75.0 %.")
    assert found["classes"] == f"run {run.folder.path} has no whole weights file yet"
    assert found["results"] == "no epoch has been tested yet"


def test_long_trainings_show_some_epochs(tmp_path):
    """Of 250 epochs every third is in the table, and the last."""
    rows = [{**ROWS[3], "epoch": epoch, "step": 4 * epoch} for epoch in range(1, 251)]
    (table,) = page_of(make_run(tmp_path, rows=rows, with_weights=False, epochs=250)).tables("curves")
    assert [row[0] for row in table[1:]] == [*(str(epoch) for epoch in range(3, 250, 3)), "250"]
    assert table[1][2:4] == ["-", "-"]


def test_run_that_has_logged_nothing(tmp_path):
    """A run that has just begun has its recipe and its machine to tell."""
    run = make_run(tmp_path, rows=(), with_weights=False)
    assert page_of(run).facts("glance")["state"] == "just begun: nothing has been logged yet"
    assert reasons(run)["curves"] == "nothing has been logged yet: wait until --log-every steps are made"


def test_machine_of_a_run_without_states(tmp_path):
    """Without a state, or with a damaged newest one, what the others tell is told."""
    run = make_run(tmp_path)
    (run.folder.resume / "9.json").write_text("{")
    assert page_of(run, data=None).facts("machine")["torch"] == "9.9.9"
    (run.folder.resume / "8.json").unlink()
    assert "torch" not in page_of(run, data=None).facts("machine")


def test_original_has_no_differences(tmp_path):
    """A run of the authors' recipe says so instead of a table."""
    run = make_run(tmp_path, with_weights=False)
    run.folder.recipe.write_text('name = "original"\n')
    assert page_of(run).section("recipe").text.endswith("the authors' net #145, in every field.")


@pytest.mark.parametrize("recipe", [narrow_small(towers=1), narrow_small(channel_order="bgr")])
def test_other_networks(tmp_path, recipe):
    """One tower and BGR are drawn too: kernels in one block, and in the colours that they look for."""
    run = make_run(tmp_path, weights=known_weights(recipe=recipe))
    page = page_of(run, data=None)
    (picture,) = page.within(page.section("filters"), "img")
    assert (picture.attributes["width"], picture.attributes["height"]) == (("97", "13") if recipe.towers == 1 else ("49", "27"))


def test_kernels_of_several_epochs(tmp_path):
    """Of eight epochs that were kept six are shown, the first and the last among them."""
    run = make_run(tmp_path)
    for epoch in range(8):
        keep_kernels(run.folder, known_weights().recipe, known_weights().tensors, epoch, 4 * epoch)
    page = page_of(run, data=None)
    captions = [one.text for one in page.within(page.section("filters"), "figcaption")]
    assert captions == ["After step 8", "Before the first epoch", *(f"Epoch {epoch}" for epoch in (1, 3, 4, 6, 7))]


def test_colour_of_the_towers(run):
    """The medians are those of the share of each kernel that is off the grey axis, worked out here place by place."""
    page = page_of(run, data=None, without=LATER - {"towers"})
    kernels = known_weights().tensors["conv1.weight"].double().numpy()
    grey = kernels.mean(axis=1, keepdims=True)
    shares = 1 - 3 * (grey**2).sum(axis=(1, 2, 3)) / (kernels**2).sum(axis=(1, 2, 3))
    rows = page.tables("towers")[0][1:]
    assert [row[:2] for row in rows] == [["tower a", "4"], ["tower b", "4"]]
    assert [row[3] for row in rows] == [f"{np.median(half):.3f}" for half in np.split(shares, 2)]


def test_colour_over_the_epochs(tmp_path):
    """With kernels of the epochs a second drawing stands beside the first; one that cannot be read is told, and the first stays."""
    run = make_run(tmp_path)
    assert page_of(run, without=LATER - {"towers"}).section("towers").text.count("has no kernels of its epochs") == 1
    for epoch in range(3):
        keep_kernels(run.folder, known_weights().recipe, known_weights().tensors, epoch, 4 * epoch)
    page = page_of(run, data=None, without=LATER - {"towers"})
    assert [one.tag for one in page.within(page.section("towers"), "svg")] == ["svg"] * 2
    (run.folder.kernels / "epoch-0001.safetensors").write_bytes(b"")
    page = page_of(run, data=None, without=LATER - {"towers"})
    assert len(list(page.within(page.section("towers"), "svg"))) == 1
    assert "epoch-0001.safetensors" in page.section("towers").text


def test_units_of_every_layer_but_the_first(tmp_path):
    """Two units of each layer, the first and the last, are shown; those of the last layer are called by their classes."""
    recipe = replace(tiny(), channels=(8, 6, 4, 4))
    page = page_of(make_run(tmp_path, weights=known_weights(recipe=recipe)), data=None, units=2, without=LATER - {"units"})
    section = page.section("units")
    assert [one.text for one in page.within(section, "h3")] == ["conv2", "local3", "local4", "fc5"]
    captions = [one.text for one in page.within(section, "figcaption")]
    assert captions == ["unit 0", "unit 5", *("unit 0", "unit 3") * 2, "cat", "owl"]
    # What conv2 sees through its 5 pixels, pooling and conv1: 5 + 2 + 4 * 2 pixels; fc5 sees all.
    widths = [one.attributes["width"] for one in page.within(section, "img")]
    assert widths[:2] == ["15"] * 2 and widths[-2:] == ["32"] * 2


def test_units_are_in_towers():
    """Of 16 units the first half is tower a's; classes are in no tower."""
    weights = known_weights()
    of = layer_units(weights, "conv5")
    assert unit_name(of, 7) == "unit 7, tower a" and unit_name(of, 8) == "unit 8, tower b"
    assert unit_name(layer_units(weights, "fc8"), 1) == "dog"


def test_similar_pictures(run):
    """Five of six pictures are shown, each with the five others, the nearest first."""
    page = page_of(run, without=LATER - {"similar"})
    section = page.section("similar")
    lists = page.within(section, "ol")
    assert len(lists) == 5 and len(page.within(section, "img")) == 5 * (1 + 5)
    for one in lists:
        distances = [float(picture.attributes["alt"].split()[-1]) for picture in page.within(one, "img")]
        assert distances == sorted(distances) and distances[0] > 0


@pytest.mark.parametrize(("count", "most", "expected"), [(1, 6, [0]), (6, 6, [0, 1, 2, 3, 4, 5]), (11, 6, [0, 2, 4, 6, 8, 10])])
def test_epochs_evenly_apart(count, most, expected):
    """First and last are among those chosen."""
    assert spread(count, most) == expected


def test_command_writes_one_file(run, tmp_path):
    """The command finds a run by its name, writes the page, and prints where; nothing else is left beside it."""
    out = tmp_path / "pages" / "report.html"
    arguments = ["report", "first", "--runs", str(run.folder.path.parent), "--data", str(run.data), "--out", str(out)]
    result = CliRunner().invoke(app, [*arguments, "--crops", "1", "--device", "cpu", "--without", "units,similar,towers"])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out}\n" and [path.name for path in out.parent.iterdir()] == ["report.html"]
    require_sound(Page(out.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nothing"], 1, "error: no run nothing in"),
        (["first", "--without", "everything"], 2, "expected some of glance, curves"),
        (["first", "--data", "nowhere"], 1, "error: nowhere does not exist"),
        (["first", "--data", "DATA", "--split", "test"], 1, "has no split test, only val"),
        (["first", "--data", "DATA", "--split", "first"], 2, "expected one of train, val, test"),
        (["first", "--data", "DATA", "--split", "val,test"], 2, "expected one of train, val, test"),
    ],
)
def test_wrong_usage(run, tmp_path, arguments, code, said):
    """What does not exist is named before anything is computed, and nothing is written."""
    arguments = [str(run.data) if one == "DATA" else one for one in arguments]
    out = tmp_path / "report.html"
    result = CliRunner().invoke(app, ["report", *arguments, "--runs", str(run.folder.path.parent), "--out", str(out)])
    assert result.exit_code == code and said in " ".join(result.output.split())
    assert not out.exists()


def test_damaged_log(tmp_path):
    """A line that is no row is named."""
    run = make_run(tmp_path, with_weights=False)
    run.folder.metrics.write_text(json.dumps(ROWS[0]) + "\nrubbish\n")
    result = CliRunner().invoke(app, ["report", str(run.folder.path), "--out", str(tmp_path / "report.html")])
    assert result.exit_code == 1 and "line 2 of" in result.output


@pytest.mark.parametrize("changes", [{"loss": None}, {"epoch": "two"}, {"step": True}])
def test_log_without_its_numbers(tmp_path, changes):
    """A row without a number that rows of its kind have is named, with what stands in its place."""
    run = make_run(tmp_path, rows=[ROWS[0], {**ROWS[1], **changes}], with_weights=False)
    result = CliRunner().invoke(app, ["report", str(run.folder.path), "--out", str(tmp_path / "report.html")])
    ((name, value),) = changes.items()
    assert result.exit_code == 1 and f"a row of kind step whose {name} is {value!r}" in " ".join(result.output.split())
