"""The report's page in a real browser: nothing sticks out, nothing is loaded, words say it all."""

import html
import json
import re
import shutil
import subprocess
from functools import cache

import pytest
from evaluation_samples import answers, measured, report, subjects

from tutelage.evaluation import page
from tutelage.evaluation.examining import examine, full
from tutelage.evaluation.faces.blocks import Table, as_html
from tutelage.evaluation.parts import Cost, Flips

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="there is no chromium on this machine"),
]
WIDTHS = (375, 1200)
# Each width is a frame of its own: a window of 375 px is narrower than a browser's least.
WRAPPER = """<!doctype html><meta charset="utf-8"><body><pre id="found"></pre><script>
const pages = PAGES, found = {};
for (const [name, text] of Object.entries(pages)) for (const width of WIDTHS) {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 900px; border: 0`;
  frame.onload = () => {
    const inner = frame.contentWindow, page = frame.contentDocument;
    page.querySelectorAll("details").forEach((each) => { each.open = true; });
    const outside = [...page.querySelectorAll("body *")].filter((each) => {
      const box = each.getBoundingClientRect();
      return box.width > 0 && box.right > width + 0.5 && !each.closest(".scroll, pre");
    });
    found[name] = found[name] || {};
    found[name][width] = {
      inner: inner.innerWidth,
      scroll: page.documentElement.scrollWidth,
      outside: outside.slice(0, 5).map((each) => `${each.tagName} ${each.textContent.slice(0, 60)}`),
      loaded: inner.performance.getEntriesByType("resource").map((each) => each.name),
      sections: page.querySelectorAll("section").length,
      smallest: Math.min(...[...page.querySelectorAll("p, li, td, th")].map(
        (each) => parseFloat(inner.getComputedStyle(each).fontSize))),
    };
    document.getElementById("found").textContent = JSON.stringify(found);
  };
  frame.srcdoc = text;
  document.body.append(frame);
}
</script>"""


def looked_at(pages, folder):
    """What a browser finds of each page at each width."""
    wrapper = folder / "wrapper.html"
    written = json.dumps(pages).replace("</", "<\\/").replace("<!--", "<\\!--")
    wrapper.write_text(WRAPPER.replace("PAGES", written).replace("WIDTHS", str(list(WIDTHS))))
    done = subprocess.run(
        [
            BROWSER,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={folder / 'profile'}",
            "--window-size=1300,1000",
            "--virtual-time-budget=8000",
            "--dump-dom",
            wrapper.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-500:]
    return json.loads(html.unescape(found[1]))


@cache
def whole_page():
    quick = {"cost": Cost(seconds=0.2, calls=5), "flips": Flips()}
    return page(report(parts=examine(subjects(), quick)).figures)


def long_names():
    classes = tuple(f"{'Donaudampfschifffahrt' * 3}{number}" for number in range(4))
    shares = {"teacher": 0.95, "student": 0.8, "baseline": 0.7}
    models = {
        role: measured(answers(share, seed=seed, classes=classes))
        for seed, (role, share) in enumerate(shares.items())
    }
    return page(report(**models).figures)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """All pages, looked at once: a browser takes seconds to start."""
    whole, begin = whole_page(), "<main>"
    table = Table(tuple(f"column number {i}" for i in range(30)), (("cell" * 5,) * 30,))
    lone = report(teacher=None, baseline=None, gates={"ece": 0.2}, seeds=())
    pages = {
        "whole": whole,
        "lone": page(lone.figures),
        "long names": long_names(),
        "wide table": whole.replace(begin, f"{begin}<section>{as_html([table])}</section>"),
        "too wide": whole.replace(begin, f'{begin}<div style="width: 700px">wide</div>'),
        "loads": whole.replace(begin, f'{begin}<img src="http://127.0.0.1:9/no.png" alt="">'),
    }
    return looked_at(pages, tmp_path_factory.mktemp("browser"))


def assert_fits(found):
    assert set(found) == {str(width) for width in WIDTHS}
    for width in WIDTHS:
        seen = found[str(width)]
        assert seen["inner"] == width
        assert seen["scroll"] <= width, seen["outside"]
        assert seen["outside"] == []
        assert seen["loaded"] == []
        assert seen["sections"] > 6
        assert seen["smallest"] >= 12


@pytest.mark.parametrize("name", ["whole", "lone", "long names", "wide table"])
def test_nothing_sticks_out_on_a_phone_or_a_desk_and_nothing_is_loaded(seen, name):
    assert_fits(seen[name])


def test_a_page_that_is_too_wide_or_loads_something_is_seen(seen):
    assert seen["too wide"]["375"]["scroll"] >= 700
    assert seen["too wide"]["375"]["outside"]
    assert seen["loads"]["1200"]["loaded"] == ["http://127.0.0.1:9/no.png"]


def test_words_say_all_that_colours_say():
    text = whole_page()
    bare = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", text, flags=re.DOTALL)
    for status, word in (("fine", "In order"), ("notice", "Know this"), ("warning", "Look at")):
        for line in re.findall(rf'<li class="{status}">(.*?)</li>', bare):
            assert word in line
    for cell in re.findall(r'<td class="(?:yes|no)">(.*?)</td>', bare):
        assert cell in ("passed", "failed")
    # Models differ in their marks, not in their colours alone.
    (picture,) = re.findall(
        r'<svg(?:(?!<svg).)*?aria-label="Time of a call.*?</svg>', text, re.DOTALL
    )
    marks = set(re.findall(r'<path id="(latency-m[0-9a-f]+)" d="([^"]+)"', picture))
    assert len({shape for _, shape in marks}) >= 3


@pytest.mark.slow
def test_the_page_of_all_parts_fits(tmp_path):
    text = page(report(parts=examine(subjects(), full())).figures)
    assert_fits(looked_at({"all": text}, tmp_path)["all"])
