"""The report in a real browser: nothing is loaded, it fits a telephone, and can be read in the dark, by keys and in print."""

import base64
import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from alexnet_cli.core.report import make_report
from alexnet_cli.core.report_page import write_page
from alexnet_cli.core.report_sources import ReportOptions
from tests.runs import make_run

pytest.importorskip("matplotlib")
webdriver = pytest.importorskip("selenium.webdriver")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs chromium and chromedriver")

SIZES = {"wide": (1280, 800), "telephone": (390, 844)}
# The lowest contrast of any text with what is behind it, by WCAG 2's formula: the text's colour, and of its ancestors' backgrounds,
# colours as well as bars, each on those further out.
CONTRAST = """
const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n.length > 3 ? n[3] : 1]; };
const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = c => 0.2126 * linear(c[0] / 255) + 0.7152 * linear(c[1] / 255) + 0.0722 * linear(c[2] / 255);
const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
const behind = element => {
  if (!element) return [[255, 255, 255, 1]];
  const style = getComputedStyle(element), below = behind(element.parentElement);
  const own = below.map(c => over(parse(style.backgroundColor), c));
  const bars = (style.backgroundImage.match(/rgba?\\([^)]*\\)/g) || []).map(parse);
  return own.concat(...bars.map(bar => own.map(c => over(bar, c))));
};
let worst = [99, ""];
for (const element of document.body.querySelectorAll("*")) {
  const text = [...element.childNodes].filter(n => n.nodeType === 3).map(n => n.textContent).join("").trim();
  if (!text || element.closest("style")) continue;
  const style = getComputedStyle(element), ink = parse(element.closest("svg") ? style.fill : style.color);
  for (const paper of behind(element)) if (ratio(ink, paper) < worst[0]) worst = [ratio(ink, paper), text];
}
return worst;
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """A report on a run whose page has every kind of part that such a run can have."""
    folder = tmp_path_factory.mktemp("browser")
    run = make_run(folder, words=("a cat of a long name that no telephone has room for, unless it breaks", "dog", "owl" * 20))
    out = folder / "report.html"
    without = frozenset({"units"})  # which take long
    write_page(make_report(ReportOptions(run.folder, run.data, crops=1, device="cpu", precision="fp32", without=without)), out)
    return out.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a window, cut off from every network."""
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.binary_location = BROWSER
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield opened
    opened.quit()


def show(browser: Any, address: str, size: str = "wide", *, dark: bool = False, media: str = "screen") -> None:
    """Open the page on a screen of that size."""
    width, height = SIZES[size]
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "telephone"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [scheme]})
    browser.get(address)


def test_nothing_is_loaded_or_logged(browser, address):
    """The page's own file is all that is asked for; the console stays empty; every picture can be decoded."""
    browser.get_log("performance")
    show(browser, address)
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert (
        browser.execute_script("return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length")
        == 0
    )
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.compatMode") == "CSS1Compat"
    widths = browser.execute_script("return [...document.images].map(one => one.naturalWidth)")
    assert len(widths) >= 7 and min(widths) > 0


@pytest.mark.parametrize("size", sorted(SIZES))
def test_no_sideways_scrolling(browser, address, size):
    """No part is wider than the screen; wide tables scroll in boxes of their own."""
    show(browser, address, size)
    browser.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
    inside, screen = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert inside <= screen == SIZES[size][0]
    assert browser.execute_script("return Math.min(...[...document.images].map(one => one.clientWidth))") > 100


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("media", ["screen", "print"])
def test_everything_can_be_read(browser, address, dark, media):
    """The paper is dark where darkness is preferred, but never in print, and no text has less than 4.5 times its contrast."""
    show(browser, address, dark=dark, media=media)
    browser.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert max(paper) < 40 if dark and media == "screen" else paper == [255, 255, 255]
    ratio, text = browser.execute_script(CONTRAST)
    assert ratio >= 4.5, text


def test_keys_reach_everything(browser, address):
    """The first key leads past the contents to the report; tables that scroll can be reached."""
    from selenium.webdriver.common.keys import Keys

    show(browser, address, "telephone")
    browser.find_element("tag name", "body").send_keys(Keys.TAB)
    assert browser.execute_script("return document.activeElement.className") == "skip"
    assert browser.execute_script("return document.activeElement.getBoundingClientRect().left") >= 0
    boxes = browser.find_elements("css selector", ".scroll")
    assert boxes and all(one.get_attribute("tabindex") == "0" for one in boxes)


def test_kernels_stay_sharp(browser, address):
    """Pictures of numbers are enlarged without blending, to more than twice their size."""
    show(browser, address)
    picture = browser.find_element("css selector", ".pixels")
    assert picture.value_of_css_property("image-rendering") == "pixelated"
    assert picture.size["width"] > 2 * int(picture.get_property("naturalWidth"))


def test_it_prints(browser, address):
    """The browser makes a PDF of it, of more than one page."""
    show(browser, address, dark=True)
    content = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"])
    assert content.startswith(b"%PDF-") and content.count(b"/Type /Page\n") > 1
