"""How long from the press of a key to the changed picture, in a real JupyterLab in headless Chromium?

For each widget 100 presses, one after another: from the browser's key event to the end of the frame that shows the new
picture, decoded. Beside them the temperature explorer as `interact` with inline figures would do it, in the same
notebook. And drawing alone: `Picture.png` of the states that such presses run through, in this process.

    python benchmarks/widgets.py [--presses N] [--quick] [--json FILE]

Needs what the browser tests need: tests/requirements.txt and a Chromium. `--quick` presses 30 times.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "browser"), str(ROOT / "tests" / "widgets")]

from lab import chromium, errors, jupyterlab, open_widget, run_all  # noqa: E402
from widget_page import SETUP, WIDGETS, write_notebook  # noqa: E402

INTERACT = """
import matplotlib.pyplot as plt
from ipywidgets import FloatLogSlider, interact
p_logits, q_logits = (predict(m, task.encode(texts[:1]))[0].double() for m in (teacher, student))
def show(T):
    p, q = (p_logits / T).softmax(-1), (q_logits / T).softmax(-1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3))
    left.bar([i - 0.2 for i in range(5)], p, 0.38)
    left.bar([i + 0.2 for i in range(5)], q, 0.38)
    right.bar(range(5), (q - p) / T)
    left.set_ylim(0, 1.15)
    left.set_title(f"T = {T:.2f}")
    plt.show()
interact(show, T=FloatLogSlider(value=1, base=2, min=-3, max=4.5, step=1 / 16))
"""
# Called with the element around a picture. Appends to `kdlabTimes`, for each key, the milliseconds from its event to
# the end of the first frame that has another picture, loaded (the pictures are decoded when they are painted).
WATCHER = """
box => {
    window.kdlabTimes = [];
    const shown = () => box.querySelector('img');
    document.addEventListener('keydown', event => {
        const before = shown().src;
        const frame = () => {
            const image = shown();
            if (!image || image.src === before || !image.complete || !image.naturalWidth)
                return requestAnimationFrame(frame);
            const channel = new MessageChannel();
            channel.port1.onmessage = () => window.kdlabTimes.push(performance.now() - event.timeStamp);
            channel.port2.postMessage(0); };
        requestAnimationFrame(frame);
    }, true);
}
"""
WARM_UP, PAUSE = 5, 0.15        # presses that do not count; seconds between presses, in which nothing else is asked for


def presses(page, box, control, keys: tuple[str, str], back: int, count: int) -> list[float]:
    """Milliseconds of `count` presses."""
    box.evaluate(WATCHER)
    control.focus()
    for i in range(WARM_UP + count):
        page.keyboard.down(keys[(i // back) % 2])
        time.sleep(PAUSE)
        page.keyboard.up(keys[(i // back) % 2])
    times = page.evaluate("window.kdlabTimes")
    if len(times) != WARM_UP + count:
        raise SystemExit(f"{WARM_UP + count} presses changed {len(times)} pictures")
    return times[WARM_UP:]


def in_the_browser(name: str, count: int, root: Path) -> list[float]:
    """Presses in a notebook of its own, so that no other widget is on the page."""
    write_notebook(root / f"{name}.ipynb", [SETUP, INTERACT if name == "interact" else WIDGETS[name].code])
    with chromium() as browser, jupyterlab(root) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(60_000)
        if name == "interact":
            run_all(page, address(name))
            if said := errors(page):
                raise SystemExit(said[0])
            box = page.locator(".widget-interact").first
            return presses(page, box.element_handle(), box.get_by_role("slider").first, ("ArrowRight", "ArrowLeft"),
                           25, count)
        one = WIDGETS[name]
        _, box = open_widget(page, address(name), one.alt)
        control = box.get_by_role(one.control[0]).nth(one.control[1])
        return presses(page, box.element_handle(), control, one.keys, one.back, count)


def drawing_alone(name: str, count: int) -> list[float]:
    """Milliseconds of drawing the states that a control runs through, encoded as they are sent."""
    space: dict = {}
    exec(SETUP, space)
    widget = eval(WIDGETS[name].code, space)
    steps = {"temperature": ("T", lambda i: 2 ** (-1 + (i % 25) / 16)), "watch": ("moment", lambda i: i % 60),
             "layer_map": ("source", lambda i: 1 + i % 4), "attention": ("head", lambda i: 1 + i % 4),
             "builder": ("depth", lambda i: 2 + i % 10), "direction": ("apart", lambda i: 3 + (i % 25) / 10),
             "which_one": ("pointer", lambda i: widget.pointer.options[i % 9])}[name]
    times = []
    for i in range(count + 5):
        getattr(widget, steps[0]).value = steps[1](i)
        state = widget.state()
        began = time.perf_counter()
        widget.picture.png(state)
        times.append(1e3 * (time.perf_counter() - began))
    return times[5:]


def p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presses", type=int, default=100)
    parser.add_argument("--widgets", nargs="+", default=list(WIDGETS), choices=list(WIDGETS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    count = 30 if options.quick else options.presses
    figures: dict[str, float] = {}
    print(f"{'widget':<14}{'median ms':>11}{'p95 ms':>9}{'drawing p95 ms':>17}")
    with tempfile.TemporaryDirectory() as root:
        for name in [*options.widgets, "interact"]:
            times = in_the_browser(name, count, Path(root))
            figures |= {f"{name}_median_ms": statistics.median(times), f"{name}_p95_ms": p95(times)}
            line = f"{name:<14}{figures[f'{name}_median_ms']:>11.1f}{figures[f'{name}_p95_ms']:>9.1f}"
            if name != "interact":
                figures[f"{name}_draw_p95_ms"] = p95(drawing_alone(name, count))
                line += f"{figures[f'{name}_draw_p95_ms']:>17.1f}"
            print(line, flush=True)
    if "temperature" in options.widgets:
        figures["ratio_to_interact"] = figures["interact_median_ms"] / figures["temperature_median_ms"]
        print(f"interact takes {figures['ratio_to_interact']:.1f} times as long as the temperature explorer")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
