"""A real JupyterLab and a headless Chromium that drives it: for the browser tests and `benchmarks/widgets.py`."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
RUN_ALL_SECONDS = 240


@contextmanager
def chromium() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def jupyterlab(root: Path) -> Iterator[Callable[[str], str]]:
    """A JupyterLab over the folder `root`; yields a function from a notebook's name to its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(8)
    log = (root / "lab.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser",
         f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}",
         f"--ServerApp.root_dir={root}", "--LabApp.news_url=None", "--LabApp.check_for_updates_class="
         "jupyterlab.NeverCheckForUpdate"], stdout=log, stderr=subprocess.STDOUT,
        env={**os.environ, "JUPYTER_CONFIG_DIR": str(root / "config"),
             "JUPYTERLAB_SETTINGS_DIR": str(root / "settings"),
             "JUPYTERLAB_WORKSPACES_DIR": str(root / "workspaces")})
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{base}/api?token={token}", timeout=2)
                break
            except OSError:
                time.sleep(0.5)
                assert server.poll() is None, (root / "lab.log").read_text()
        # a workspace each: a shared one would bring back, in front, the lesson that another test had open
        yield lambda lesson: f"{base}/lab/workspaces/{lesson}/tree/{lesson}.ipynb?token={token}"
    finally:
        server.terminate()
        server.wait(20)
        log.close()


def run_all(page, address: str) -> None:
    """Open a lesson, wait for its kernel (the idle badge comes too early), run every cell, wait for the last, or for
    one that fails."""
    page.goto(address)
    page.wait_for_function(
        """() => { const w = window.jupyterapp?.shell.currentWidget, k = w?.sessionContext?.session?.kernel;
                   return k && k.connectionStatus === 'connected' && k.status === 'idle'; }""", timeout=90_000)
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_function(
        """() => { const cells = window.jupyterapp.shell.currentWidget.content.model.cells;
                   const code = [...cells].filter(c => c.type === 'code');
                   return code.some(c => c.outputs.toJSON().some(o => o.output_type === 'error')) ||
                       code.length && code.every(c => c.executionCount && c.executionState !== 'running'); }""",
        timeout=1000 * RUN_ALL_SECONDS)
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'", timeout=60_000)


def errors(page) -> list[str]:
    return page.evaluate(
        """() => [...window.jupyterapp.shell.currentWidget.content.model.cells].filter(c => c.type === 'code')
               .flatMap(c => c.outputs.toJSON()).filter(o => o.output_type === 'error').map(o => o.evalue)""")


def picture(page, start: str):
    """The live picture whose description begins so, scrolled into view: JupyterLab draws only the cells
    near the window."""
    image = page.locator(f"img[alt^='{start}']").last
    for _ in range(60):     # cells above grow as they are drawn, and push the wanted one away again
        page.evaluate(
            """async start => {
                   const notebook = window.jupyterapp.shell.currentWidget.content;
                   const shows = o => o.data?.['text/plain']?.startsWith(start);
                   const index = [...notebook.model.cells].findIndex(
                       c => c.type === 'code' && c.outputs.toJSON().some(shows));
                   await notebook.scrollToItem(index, 'start'); }""", start)
        page.wait_for_timeout(300)
        if image.count():
            break
    image.scroll_into_view_if_needed()
    return image


def open_widget(page, address: str, start: str):
    """Run a lesson, which must go without an error; its picture whose description begins so, and the widget around
    it."""
    run_all(page, address)
    assert errors(page) == []
    image = picture(page, start)
    return image, page.locator(".widget-box", has=page.locator(f"img[alt^='{start}']")).first


def printed(page, code: str) -> str:
    """What the kernel of the notebook on the page prints for `code`, beside whatever else it is doing."""
    return page.evaluate(
        """async code => {
               const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
               const future = kernel.requestExecute({code});
               let said = '';
               future.onIOPub = message => { said += message.content.text || ''; };
               await future.done;
               return said; }""", code)
