"""comparison.html: one file that holds all text of the page, and that a browser sorts and draws."""

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from chromium import Browser, install

from peft_ablation.comparison.interactive import BROWSER, LIBRARY, RunPage, interactive_page
from peft_ablation.comparison.pages import Heading, Items, Paragraph, Table
from peft_ablation.comparison.words import Words
from peft_ablation.tasks import Claim

HOSTILE = "</script><img src=x onerror=alert(1)>"
ARMS = ["fft", "lora", HOSTILE]
SCORES = {"fft": 0.9, "lora": 0.5, HOSTILE: 0.7}
LOSSES = {"fft": 2.0, "lora": 1.0, HOSTILE: 3.0}
SECONDS = {"fft": 1000.0, "lora": 30.0, HOSTILE: 200.0}


def metric(name: str, title: str, higher: bool) -> dict:
    return {
        "name": name, "title": title, "unit": "0 to 1", "digits": 2,
        "definition": f"what {name} is", "higher_is_better": higher, "compared": True,
    }  # fmt: skip


WORDS = Words(
    example="image",
    group="patient",
    headline="f1",
    metrics={"f1": metric("f1", "F1", True), "loss": metric("loss", "test loss", False)},
    shown=("f1",),
    baselines={"constant": "always the same"},
    claims=(Claim("f1", "constant"),),
    extras=(),
)


def row(arm: str) -> dict:
    found = {
        "arm": arm, "seeds": 2, "reference_arm": "fft", "constant_f1": 0.25,
        "trainable_parameters": 1000 if arm == "fft" else 10, "train_seconds": SECONDS[arm],
        "peak_memory_mb": 100.0, "adapter_mb": 4.0, "energy_joules": None, "f1_verdict": None,
    }  # fmt: skip
    for name, value in (("f1", SCORES[arm]), ("loss", LOSSES[arm])):
        found |= {
            name: value, f"{name}_low": value - 0.1, f"{name}_high": value + 0.1,
            f"{name}_by_seed": f"{value - 0.05} {value + 0.05}", f"{name}_shuffled": float("nan"),
            f"{name}_difference": None if arm == "fft" else value - 0.9,
            f"{name}_difference_low": None, f"{name}_difference_high": None,
        }  # fmt: skip
    return found


ROWS = [row(arm) for arm in ARMS]
RUNS = {
    arm: [RunPage(0, "../runs/fft/seed-0/history.csv"), RunPage(1, None)] if arm == "fft"
    else [RunPage(0, None), RunPage(1, None)]
    for arm in ARMS
}  # fmt: skip
BLOCKS = [
    Heading("Comparison", 1),
    Paragraph("Before <all>."),
    Heading("Costs"),
    Table(["arm", "bytes"], [["fft", "1,000 [900, 1,100]"], [HOSTILE, "–"], ["lora", "30"]]),
    Items(["a & b"]),
]
GROUPS = [
    {
        "arm": arm, "column": column, "value": value, "examples": 20, "groups": 10 + place,
        "metric": metric, "title": metric, "unit": "0 to 1", "digits": 2, "score": 0.5,
        "score_low": 0.4, "score_high": 0.6,
    }
    for arm in ARMS
    for column, metric, values in (
        ("view", "f1", ["AP", "PA"]),
        ("view", "loss", ["AP"]),
        ("sex", "recall", ["F", "M", HOSTILE]),
    )
    for place, value in enumerate(values)
]  # fmt: skip


def made(**changes) -> str:
    told = {"rows": ROWS, "words": WORDS, "runs": RUNS, "confidence": 0.9, "by_group": GROUPS}
    return interactive_page(BLOCKS, f"Study {HOSTILE}", **{**told, **changes})


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "comparison.html"
    path.write_text(made(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if reason := install():
        pytest.skip(reason)
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(started: Browser) -> Iterator[Browser]:
    """A tab on a wide light screen; whatever the page says in its console fails the test."""
    started.said.clear()
    started.screen()
    yield started
    assert started.said == []


def first_column(browser: Browser, table: str = "#chosen") -> list[str]:
    return browser.run(
        f"[...document.querySelectorAll('{table} tbody tr')].map(r => r.cells[0].textContent)"
    )


def click(browser: Browser, selector: str) -> None:
    browser.run(f"document.querySelector({json.dumps(selector)}).click()")


def means(browser: Browser, chart: str) -> list[str]:
    """What is said to who cannot see the marks of a chart."""
    return browser.run(
        f"[...document.querySelectorAll('{chart} [aria-label=means] > *')].map(m => m.ariaLabel)"
    )


def choose(browser: Browser, name: str, value: str) -> None:
    browser.run(
        f"(s => {{ s.value = {json.dumps(value)};"
        "s.dispatchEvent(new Event('change', {bubbles: true})) })"
        f"(document.querySelector('select[name={name}]'))"
    )


def test_no_text_of_a_study_ends_a_script_or_begins_an_element():
    text = made()
    assert "<img" not in text
    assert text.count("</script>") == 3
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert [arm["name"] for arm in json.loads(data)["arms"]] == ARMS


def test_numbers_that_json_has_no_word_for_are_null():
    assert "NaN" not in re.search(r'id="data">(.*?)</script>', made(), re.S)[1]


def test_the_page_asks_nothing_from_elsewhere():
    frame = "".join((BROWSER / name).read_text() for name in ("page.html", "page.css", "page.js"))
    assert not re.findall(r"https?:|\bsrc=|@import|url\(", frame)
    assert "default-src 'none'" in frame


def test_the_library_is_the_published_one():
    """By the table that tells where it comes from."""
    told = dict(
        re.findall(r"`([\w.-]+\.js)` \|.*`(\w{64})`", (BROWSER / "vendor/README.md").read_text())
    )
    found = {Path(name).name: sha256((BROWSER / name).read_bytes()).hexdigest() for name in LIBRARY}
    assert told == found


def test_same_rows_give_the_same_bytes():
    assert made() == made()


def test_without_scripts_the_text_is_there_and_nothing_dead(started: Browser, page: Path):
    started.screen(scripts=False)
    started.open(page)
    started.screen()
    shown = started.run("document.body.innerText")
    for text in ("Comparison", "Before <all>.", HOSTILE, "1,000 [900, 1,100]", "a & b"):
        assert text in shown
    assert "Explore" not in shown and "Measure" not in shown


def test_headings_of_columns_sort(browser: Browser, page: Path):
    browser.open(page)
    assert first_column(browser) == ARMS
    click(browser, "#chosen button[data-key=score]")
    assert first_column(browser) == ["lora", HOSTILE, "fft"]
    click(browser, "#chosen button[data-key=score]")
    assert first_column(browser) == ["fft", HOSTILE, "lora"]
    assert (
        browser.run("document.querySelector('#chosen [aria-sort=descending]').textContent") == "F1"
    )
    click(browser, "#chosen button[data-key=train_seconds]")
    assert first_column(browser) == ["lora", HOSTILE, "fft"]
    click(browser, "#chosen button[data-key=arm]")
    assert first_column(browser) == [HOSTILE, "fft", "lora"]


def test_tables_of_the_text_sort_by_size_and_empty_cells_are_last(browser: Browser, page: Path):
    browser.open(page)
    for order in (["lora", "fft", HOSTILE], ["fft", "lora", HOSTILE]):
        click(browser, "main > .wide th:nth-child(2) button")
        assert first_column(browser, "main > .wide") == order


def test_a_chosen_measure_is_the_one_shown(browser: Browser, page: Path):
    browser.open(page)
    cells = "[...document.querySelectorAll('#chosen tbody tr')].map(r => r.cells[1].textContent)"
    assert browser.run(cells) == ["0.90 [0.80, 1.00]", "0.50 [0.40, 0.60]", "0.70 [0.60, 0.80]"]
    assert "F1: 0.90 [0.80, 1.00]" in means(browser, "#by-arm")[0]
    choose(browser, "measure", "loss")
    assert browser.run(cells)[0] == "2.00 [1.90, 2.10]"
    assert "test loss: 2.00 [1.90, 2.10]" in means(browser, "#by-arm")[0]
    assert "Lower is better" in browser.run("document.querySelector('#meaning').textContent")


def test_a_chosen_cost_is_the_one_drawn(browser: Browser, page: Path):
    browser.open(page)
    assert "trainable parameters: 1,000" in means(browser, "#by-cost")[0]
    choose(browser, "cost", "train_seconds")
    assert "training, s: 1,000.0" in means(browser, "#by-cost")[0]
    # Three arms of 1,000, 30 and 200 seconds: the marks stand in this order.
    places = browser.run(
        "[...document.querySelectorAll('#by-cost [aria-label=means] > *')]"
        ".map(m => m.getBoundingClientRect().x)"
    )
    assert places[1] < places[2] < places[0]
    # No arm has a measured energy.
    assert not browser.run("[...document.querySelector('[name=cost]').options].map(o => o.value)"
                           ".includes('energy_joules')")  # fmt: skip


def test_arms_can_be_left_out(browser: Browser, page: Path):
    browser.open(page)
    click(browser, "#arms input[value=lora]")
    assert first_column(browser) == ["fft", HOSTILE]
    assert len(means(browser, "#by-arm")) == len(means(browser, "#by-cost")) == 2
    assert "2 of 3 arms" in browser.run("document.querySelector('#status').textContent")
    for name in ("fft", HOSTILE):
        browser.run(
            "[...document.querySelectorAll('#arms input')]"
            f".find(i => i.value === {json.dumps(name)}).click()"
        )
    assert first_column(browser) == []


def test_single_seeds_are_drawn_and_lead_to_their_histories(browser: Browser, page: Path):
    browser.open(page)
    links = "[...document.querySelectorAll('#chosen a')]"
    found = browser.run(f"{links}.map(a => [a.textContent, a.getAttribute('href')])")
    assert found == [["0: 0.85", "../runs/fft/seed-0/history.csv"]]
    # Three means, and two seeds of each.
    assert browser.run("document.querySelectorAll('#by-arm g[fill-opacity] > *').length") == 6


def test_groups_of_a_chosen_column_are_shown(browser: Browser, page: Path):
    browser.open(page)
    assert len(means(browser, "#by-group")) == 2 * 3
    choose(browser, "column", "sex")
    told = means(browser, "#by-group")
    assert len(told) == 3 * 3
    assert "M, fft; recall: 0.50 [0.40, 0.60]; 20 images of 11 patients" in told


def test_groups_have_the_chosen_measure_where_it_is_known_of_them(browser: Browser, page: Path):
    browser.open(page)
    assert means(browser, "#by-group")[0].startswith("AP, fft; f1")
    choose(browser, "measure", "loss")
    assert means(browser, "#by-group")[0].startswith("AP, fft; loss")
    assert len(means(browser, "#by-group")) == 1 * 3
    choose(browser, "column", "sex")
    title = "document.querySelector('#by-group-title').textContent"
    assert browser.run(title) == "Recall by sex"


def test_without_groups_there_is_no_view_of_them(browser: Browser, tmp_path: Path):
    path = tmp_path / "page.html"
    path.write_text(made(by_group=()))
    browser.open(path)
    assert browser.run("document.querySelector('#groups').hidden")


def test_where_all_scores_are_one_an_interval_without_width_is_drawn_so(
    browser: Browser, tmp_path: Path
):
    flat = dict.fromkeys(("f1", "f1_low", "f1_high", "constant_f1"), 0.0) | {
        "f1_by_seed": "0.0 0.0"
    }
    groups = [{**one, "score": 0.0, "score_low": 0.0, "score_high": 0.0} for one in GROUPS]
    path = tmp_path / "page.html"
    path.write_text(made(rows=[{**one, **flat} for one in ROWS], by_group=groups))
    browser.open(path)
    for chart in ("#by-arm", "#by-cost", "#by-group"):
        sizes = browser.run(
            f"[...document.querySelectorAll('{chart} [aria-label=rule] line')]"
            ".filter(l => l.getAttribute('stroke')?.includes('arm'))"
            ".map(l => Math.hypot(l.x1.baseVal.value - l.x2.baseVal.value,"
            " l.y1.baseVal.value - l.y2.baseVal.value))"
        )
        assert len(sizes) >= len(ARMS) and max(sizes) < 1, chart


def test_the_address_keeps_what_is_chosen(browser: Browser, page: Path):
    browser.open(page)
    choose(browser, "measure", "loss")
    click(browser, "#arms input[value=lora]")
    click(browser, "#chosen button[data-key=score]")
    address = browser.run("location.hash").removeprefix("#")
    shown = browser.run("document.querySelector('#chosen').innerText")
    browser.open(page, address)
    assert browser.run("document.querySelector('#chosen').innerText") == shown
    browser.open(page, "measure=nonsense&sort=nonsense:up&arms=fft&column=nonsense&cost=nonsense")
    assert first_column(browser) == ["fft"]


def test_the_keyboard_sorts_and_reads_marks(browser: Browser, page: Path):
    browser.open(page)
    browser.run("document.querySelector('#chosen button[data-key=arm]').focus()")
    browser.press("Tab", 9)
    browser.press("Enter", 13)
    assert first_column(browser) == ["lora", HOSTILE, "fft"]
    # The heading keeps the focus though the table was made anew.
    browser.press("Enter", 13)
    assert first_column(browser) == ["fft", HOSTILE, "lora"]
    browser.run("document.querySelector('#by-arm [aria-label=means] > *').focus()")
    browser.settle()
    assert "0.90 [0.80, 1.00]" in browser.run("document.querySelector('#by-arm svg').textContent")


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_marks_stand_out_in_light_and_dark(browser: Browser, page: Path, dark: bool):
    """By WCAG 2: text has a contrast of 4.5 at least, marks have 3."""
    browser.screen(dark=dark)
    browser.open(page)
    names = ["paper", "ink", "faint", "link", *(f"arm-{number}" for number in range(7))]
    colours = browser.run(
        f"{json.dumps(names)}.map(n => {{ const e = document.createElement('i');"
        "document.body.append(e); e.style.color = `var(--${n})`;"
        "return getComputedStyle(e).color.match(/[0-9]+/g).map(Number) })"
    )
    paper, *others = map(luminance, colours)
    assert (paper < 0.1) == dark
    contrasts = [(max(paper, one) + 0.05) / (min(paper, one) + 0.05) for one in others]
    assert min(contrasts[:3]) >= 4.5 and min(contrasts[3:]) >= 3, dict(
        zip(names[1:], contrasts, strict=True)
    )


def luminance(colour: list[int]) -> float:
    parts = [c / 255 for c in colour]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_phone_scrolls_downward_alone(browser: Browser, page: Path):
    browser.screen(width=390)
    browser.open(page)
    assert browser.run("document.documentElement.scrollWidth") <= 390
    assert browser.run("document.querySelector('#by-arm svg').getBoundingClientRect().right") <= 390
