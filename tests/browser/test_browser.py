"""The lessons in a real JupyterLab in headless Chromium: run all, move the controls, read the picture.

Needs a Chromium on the machine (Debian's `chromium`); skipped without one, unless
KDLAB_BROWSER_REQUIRED is set, as it is in .ci/run.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from lab import CHROMIUM, chromium, errors, jupyterlab, open_widget, picture, printed, run_all
from widget_page import LIVE, SETUP, WIDGETS, write_notebook

from kdlab import losses
from kdlab.data.tasks import encode_texts
from kdlab.models import load_classifier
from kdlab.study.metrics import predict
from kdlab.worlds.corpus import World

try:
    from playwright.sync_api import Error as PlaywrightError
except ImportError:     # then no browser test runs
    PlaywrightError = Exception

SHOTS = os.environ.get("KDLAB_SCREENSHOTS")     # a folder, to look at what the tests saw

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        if os.environ.get("KDLAB_BROWSER_REQUIRED"):
            pytest.fail("no Chromium found; install Debian's package chromium")
        pytest.skip("no Chromium on this machine (Debian: apt install chromium)")
    with chromium() as one:
        yield one


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab over a copy of the lessons; a function from a lesson's name to its address."""
    root = tmp_path_factory.mktemp("lab")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(path, root)
    write_notebook(root / "widgets.ipynb", [SETUP, *(one.code for one in WIDGETS.values())])
    write_notebook(root / "live.ipynb", [SETUP, LIVE.code, "sum(range(101))"])
    with jupyterlab(root) as address:
        yield address


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 1400})
    page.set_default_timeout(30_000)
    yield page
    page.close()


def told(image, name: str) -> float:
    return float(re.search(rf"{re.escape(name)} (-?[\d.]+\d)", image.get_attribute("alt")).group(1))


def percentages(image, who: str) -> list[int]:
    said = re.search(rf"{who}: (.*?)\.(?= |$)", image.get_attribute("alt")).group(1)
    return [int(x) for x in re.findall(r"(\d+)%", said)]


def changed(page, image, before: str) -> str:
    """The description once it differs from `before`."""
    for _ in range(200):
        now = image.get_attribute("alt")
        if now != before:
            return now
        page.wait_for_timeout(25)
    raise AssertionError("the picture did not change")


def shoot(page, name: str) -> None:
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{SHOTS}/{name}.png")


def test_lesson_00_watch_it_learn_by_keyboard_and_mouse(page, lab):
    run_all(page, lab("00_start_here"))
    assert errors(page) == []
    image = picture(page, "Bar chart after step")
    shoot(page, "00-start")
    before = image.get_attribute("alt")
    first = told(image, "KL(p||q)")
    assert "after step 0" in before

    widget = page.locator(".widget-box", has=page.locator("img[alt^='Bar chart after step']")).first
    slider = widget.get_by_role("slider").last
    slider.focus()
    slider.press("ArrowRight")
    after = changed(page, image, before)
    assert "after step 0" not in after
    pixels = image.screenshot()
    slider.press("End")
    page.wait_for_function("() => [...document.querySelectorAll('img')]"
                           ".some(i => i.alt.startsWith('Bar chart after step 300'))")
    assert image.screenshot() != pixels
    assert told(image, "KL(p||q)") < 0.5 * first
    shoot(page, "00-end")

    before, box = image.get_attribute("alt"), slider.bounding_box()
    track = widget.locator(".noUi-target").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"] / 2, box["y"] + box["height"] / 2, steps=8)
    page.mouse.up()
    step = int(re.search(r"after step (\d+)", changed(page, image, before)).group(1))
    page.wait_for_timeout(300)
    step = int(re.search(r"after step (\d+)", image.get_attribute("alt")).group(1))
    assert 110 < step < 190, "the middle of the slider is the middle of the training"


def test_lesson_01_temperature_explorer_moves_and_is_right(page, lab):
    run_all(page, lab("01_soft_targets"))
    assert errors(page) == []
    image = picture(page, "Bar chart at temperature")
    widget = page.locator(".widget-box", has=page.locator("img[alt^='Bar chart at temperature']")).first
    shoot(page, "01-start")
    text = widget.locator("input[type=text]").first.input_value()
    teacher, tokenizer = load_classifier("restaurant-teacher")
    logits = predict(teacher, encode_texts([text], tokenizer))[0].double()

    def right() -> float:
        """Compare bars and numbers on the page with ours; returns the temperature."""
        T = float(re.search(r"temperature ([\d.]+\d)", image.get_attribute("alt")).group(1))
        p = (logits / T).softmax(-1)
        assert percentages(image, "teacher") == pytest.approx((100 * p).tolist(), abs=1.5)
        assert percentages(image, "truth") == pytest.approx((100 * World().posterior(text)).tolist(), abs=0.51)
        assert told(image, "H(p)") == pytest.approx(losses.entropy(logits / T).item(), abs=0.02)
        shown = widget.get_by_role("status").inner_text()
        assert f"H(p) = {told(image, 'H(p)'):.3f}" in shown
        return T

    slider = widget.get_by_role("slider").last
    slider.focus()
    temperatures, entropies = [right()], [told(image, "H(p)")]
    for _ in range(12):
        before = image.get_attribute("alt")
        slider.press("ArrowRight")
        changed(page, image, before)
        temperatures.append(right())
        entropies.append(told(image, "H(p)"))
    assert temperatures == sorted(set(temperatures)) and entropies == sorted(entropies)

    before, track = image.get_attribute("alt"), widget.locator(".noUi-target").last.bounding_box()
    handle = slider.bounding_box()
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"], handle["y"] + handle["height"] / 2, steps=10)
    page.mouse.up()
    changed(page, image, before)
    page.wait_for_timeout(500)
    assert right() == pytest.approx(2**4.5, rel=0.01), "the last frame is the last position"
    assert told(image, "H(p)") > 0.95 * torch.tensor(5.0).log().item()
    shoot(page, "01-hot")

    before = image.get_attribute("alt")
    field = widget.locator("input[type=text]").first
    field.fill("hello, pizza")
    field.press("Enter")
    assert "truth:" not in changed(page, image, before), "the truth is known only inside the grammar"
    field.fill("   ")
    field.press("Enter")
    widget.get_by_role("alert").wait_for()
    assert "the text is empty" in widget.get_by_role("alert").inner_text()

    field.fill(text)
    field.press("Enter")
    widget.get_by_role("status").wait_for()
    widget.get_by_text("set the logits by hand").click()
    widget.get_by_text("student logits").wait_for()
    page.wait_for_timeout(1_000)
    assert widget.get_by_role("slider").count() == 11, "five for each model, and the temperature"
    before = image.get_attribute("alt")
    assert "truth:" not in before
    by_hand = widget.get_by_role("slider").first     # the teacher's logit for one star
    by_hand.focus()
    by_hand.press("End")
    changed(page, image, before)
    page.wait_for_timeout(500)
    shown = percentages(image, "teacher")
    assert shown[0] == max(shown) > percentages(image, "student")[0]
    shoot(page, "01-by-hand")


def test_exported_pages_show_every_picture_without_kernel_scripts_or_network(browser, tmp_path):
    lessons = sorted((ROOT / "notebooks").glob("*.ipynb"))
    subprocess.run([sys.executable, "-m", "jupyter", "nbconvert", "--to", "html", f"--output-dir={tmp_path}",
                    *map(str, lessons)], check=True, capture_output=True)
    for lesson in lessons:
        context = browser.new_context(java_script_enabled=False, offline=True)
        page = context.new_page()
        page.goto((tmp_path / f"{lesson.stem}.html").as_uri())
        images = page.locator(".jp-OutputArea img")
        assert images.count() >= 2
        for i in range(images.count()):
            assert len(images.nth(i).get_attribute("alt") or "") > 40
            assert images.nth(i).bounding_box()["height"] > 100
        if SHOTS:
            page.screenshot(path=f"{SHOTS}/page-{lesson.stem}.png", full_page=True)
        context.close()


def test_lesson_02_the_builder_moves_measures_and_takes_a_preset(page, lab):
    image, widget = open_widget(page, lab("02_anatomy"), "Three charts of size")
    shoot(page, "02-start")
    before = image.get_attribute("alt")
    slider = widget.get_by_role("slider").nth(1)
    slider.focus()
    slider.press("ArrowLeft")
    moved = changed(page, image, before)
    assert "23 layers, 512 wide" in moved
    widget.get_by_role("button").click()
    measured = changed(page, image, moved)
    shoot(page, "02-measured")
    widget.get_by_role("combobox").first.select_option("TinyBERT-4")
    assert "4 layers, 312 wide" in changed(page, image, measured)


def test_lesson_04_attention_moves_with_the_head(page, lab):
    image, widget = open_widget(page, lab("04_tinybert"), "Three maps of attention")
    before = image.get_attribute("alt")
    slider = widget.get_by_role("slider").first
    slider.focus()
    slider.press("ArrowLeft")
    assert "head 3" in changed(page, image, before)
    shoot(page, "04-attention")


def test_lesson_06_points_at_a_dot_and_changes_the_axes(page, lab):
    image, widget = open_widget(page, lab("06_which_one"), "Scatter of accuracy")
    menus = widget.get_by_role("combobox")
    before = image.get_attribute("alt")
    menus.nth(2).select_option("TinyBERT: recipe")
    pointed = changed(page, image, before)
    assert "Pointed at: TinyBERT: recipe" in pointed
    menus.nth(1).select_option("milliseconds")
    assert "against milliseconds" in changed(page, image, pointed)
    shoot(page, "06-which-one")


def test_lesson_08_compares_and_its_live_run_starts(page, lab):
    image, widget = open_widget(page, lab("08_your_own_method"), "Bar chart after step")
    before = image.get_attribute("alt")
    widget.get_by_role("button").first.click()
    changed(page, image, before)
    table = page.locator(".jp-OutputArea table", has_text="relations").first
    table.wait_for(timeout=240_000)
    assert "soft targets" in table.inner_text() and "teacher" in table.inner_text()
    page.get_by_text("is better than 'soft targets'").first.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    shoot(page, "08-compared")


def boxes(page):
    """Each widget of the page of all widgets: its name, its picture and the box around both."""
    for name, one in WIDGETS.items():
        image = f"img[alt^='{one.alt}']"
        yield name, picture(page, one.alt), page.locator(".widget-box", has=page.locator(image)).first


NAMELESS = """
box => [...box.querySelectorAll('input, select, textarea, button, [role=slider], [tabindex="0"]')].filter(e => {
    if (e.offsetParent === null) return false;
    if (e.getAttribute('role') === 'slider') {      // ipywidgets cannot name it: its field beside it does
        const row = e.closest('.widget-hslider').parentElement;
        return !row.querySelector('input[type=number]');
    }
    const label = [...(e.labels || [])].map(l => l.textContent).join('');
    return !(e.getAttribute('aria-label') || label || e.title || e.textContent).trim();
}).map(e => e.outerHTML.slice(0, 200))
"""
CONTRAST = """
box => {
    const rgb = s => s.match(/[\\d.]+/g).map(Number);
    const light = c => c.slice(0, 3).map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const text = box.querySelector('[role=status]');
    let back = text, colour;
    do { colour = rgb(getComputedStyle(back).backgroundColor); back = back.parentElement; }
    while (back && colour.length > 3 && colour[3] === 0);
    const [a, b] = [light(rgb(getComputedStyle(text).color)), light(colour)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
}
"""


def test_every_widget_is_for_everyone(page, lab):
    """Names for all controls; text that can be read in both themes; nothing cut off in a narrow column or at 200%."""
    run_all(page, lab("widgets"))
    assert errors(page) == []
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
        page.wait_for_timeout(1_500)
        for name, image, box in boxes(page):
            assert box.evaluate(CONTRAST) >= 4.5, (name, theme)
            assert len(image.get_attribute("alt")) > 40
            shoot(page, f"widget-{name}-{theme.split()[-1].lower()}")
    for name, _, box in boxes(page):
        assert box.evaluate(NAMELESS) == [], name
    page.evaluate("window.jupyterapp.commands.execute('application:toggle-left-area')")
    for width, what in ((900, "column of 900"), (640, "200% of 1280")):
        page.set_viewport_size({"width": width, "height": 1000})
        page.wait_for_timeout(500)
        for name, image, box in boxes(page):
            assert box.evaluate("b => b.scrollWidth <= b.clientWidth + 1"), (name, what)
            assert image.bounding_box()["width"] <= box.bounding_box()["width"] + 1, (name, what)
            shoot(page, f"widget-{name}-{width}")


def test_nothing_jumps_while_a_widget_moves(page, lab):
    """The box of every widget keeps its size, and the picture is there in every frame."""
    run_all(page, lab("widgets"))
    for name, image, box in boxes(page):
        one, before = WIDGETS[name], box.bounding_box()
        box.evaluate("""box => { window.bare = 0; window.heights = new Set(); window.looking = true;
            const look = () => { const i = box.querySelector('img');
                if (!i || !i.complete || !i.naturalWidth) window.bare++;
                window.heights.add(Math.round(box.getBoundingClientRect().height));
                if (window.looking) requestAnimationFrame(look); };
            look(); }""")
        control = box.get_by_role(one.control[0]).nth(one.control[1])
        control.focus()
        was = image.get_attribute("alt")
        for key in one.keys[:1] * min(one.back, 6) + one.keys[1:]:
            page.keyboard.press(key)
            page.wait_for_timeout(60)
        assert changed(page, image, was)
        page.evaluate("window.looking = false")
        assert page.evaluate("window.bare") == 0, f"{name}: frames without a picture"
        assert page.evaluate("window.heights.size") == 1, f"{name}: its height changed"
        assert box.bounding_box()["height"] == before["height"], f"{name}: its height changed"


def test_a_live_run_is_started_paused_and_ended_by_interrupt_while_the_notebook_stays_usable(page, lab):
    image, box = open_widget(page, lab("live"), LIVE.alt)
    image = page.locator("img[alt^='Bar chart after step']").first      # whatever step it will be
    box = page.locator(".widget-box", has=image).first
    assert box.evaluate(NAMELESS) == []

    def step() -> int:
        return int(re.search(r"after step (\d+) of", image.get_attribute("alt")).group(1))

    button = box.get_by_role("button", name="start")
    button.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => [...document.querySelectorAll('img')].some(i => /after step [1-9]/.test(i.alt))")
    first = step()
    sum_of = printed(page, "print(sum(range(101)))")
    assert sum_of.strip() == "5050" and "Running" in box.get_by_role("status").inner_text()
    changed(page, image, image.get_attribute("alt"))
    assert step() > first
    shoot(page, "live-running")
    box.get_by_role("button", name="pause").click()
    box.get_by_role("button", name="resume").wait_for()
    page.wait_for_timeout(800)
    paused = step()
    page.wait_for_timeout(800)
    assert step() == paused and "Paused" in box.get_by_role("status").inner_text()
    box.get_by_role("button", name="resume").click()
    page.wait_for_function("p => [...document.querySelectorAll('img')].some(i => "
                           "Number((/after step (\\d+)/.exec(i.alt) || [])[1]) > p)", arg=paused)
    page.evaluate("window.jupyterapp.commands.execute('notebook:interrupt-kernel')")
    box.get_by_role("button", name="ended").wait_for()
    box.get_by_text("Stopped: step").wait_for()
    assert errors(page) == []
    shoot(page, "live-stopped")


AWKWARD = ("", "   ", "xyzzy plugh", "the pizza was good .", "word " * 2_000, "<b>&amp;</b>", "💥 ?!",
           "we loved the price .")
SECONDS_OF_RANDOM = float(os.environ.get("KDLAB_RANDOM_SECONDS", "120"))


def random_action(page, box, chance) -> None:
    """One thing that a hand may do to a widget."""
    sliders, menus, fields = (box.get_by_role(role).all() for role in ("slider", "combobox", "spinbutton"))
    buttons = [b for b in box.get_by_role("button").all() if "measure" not in (b.text_content() or "")]
    kinds = [found for found in (sliders, menus, fields, buttons, box.get_by_role("checkbox").all()) if found]
    control = chance.choice(chance.choice(kinds))
    if not (control.is_visible() and control.is_enabled()):
        return
    if control in sliders:
        control.focus()
        for _ in range(chance.randint(1, 12)):
            page.keyboard.press(chance.choice(("ArrowRight", "ArrowLeft", "PageUp", "PageDown", "Home", "End")))
    elif control in fields:
        control.fill(str(chance.choice((-1, 0, 1, 2.5, 3, 1e9))), timeout=5_000)
        control.press("Enter")
    elif control in menus and control.evaluate("e => e.tagName") == "SELECT":
        control.select_option(index=chance.randrange(control.locator("option").count()))
    elif control in menus:
        control.fill(chance.choice(AWKWARD), timeout=5_000)
        control.press("Enter")
    else:
        control.click()


@pytest.mark.slow
def test_random_operation_leaves_no_error_and_memory_flat(page, lab):
    """Two minutes, or as many seconds as KDLAB_RANDOM_SECONDS says, with a fixed seed.

    A stretch of actions on each widget in turn: whenever another cell becomes the active one, JupyterLab 4.6 itself
    keeps 0.09 MiB of page (its toolbar in the cell; the same without any widget), which is not what is tested here.
    """
    run_all(page, lab("widgets"))
    every = [box for _, _, box in boxes(page)]
    chance, began, actions, sizes = random.Random(5), time.monotonic(), 0, []
    heap = page.context.new_cdp_session(page)
    kernel = int(printed(page, "import os; print(os.getpid())"))
    while time.monotonic() - began < SECONDS_OF_RANDOM:
        for box in chance.sample(every, len(every)):
            for _ in range(8):
                try:
                    box.scroll_into_view_if_needed()
                    random_action(page, box, chance)
                    actions += 1
                except PlaywrightError as error:
                    # JupyterLab takes cells far from the window off the page for a while; a control may be switched off
                    if "not attached" not in str(error) and "not enabled" not in str(error):
                        raise
        page.wait_for_timeout(500)
        printed(page, "import gc, ctypes; gc.collect(); ctypes.CDLL('libc.so.6').malloc_trim(0)")
        heap.send("HeapProfiler.collectGarbage")
        used = heap.send("Runtime.getHeapUsage")["usedSize"]
        resident = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{kernel}/status").read_text()).group(1)
        sizes.append((int(resident) / 1024, used / 2**20))
    assert actions > SECONDS_OF_RANDOM / 5 and errors(page) == []
    for _, image, box in boxes(page):
        assert len(image.get_attribute("alt")) > 40
        assert "Traceback" not in box.inner_text()
    print(*(f"{resident:.0f} MiB kernel, {used:.1f} MiB page" for resident, used in sizes), sep="\n")
    half = len(sizes) // 2      # by then the widgets have met most of the texts and backgrounds that they keep
    for what, values, bound in zip(("kernel", "page"), zip(*sizes, strict=True), (40, 15), strict=True):
        assert max(values[half:]) - max(values[:half]) < bound, f"MiB of the {what}: {values}"
