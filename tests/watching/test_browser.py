"""What a person sees: TensorBoard and an experiment's report in a real browser. `make test-browser`."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hierlit.cli import main

CONF = Path(__file__).parents[1] / "conf"
SCREENSHOTS = Path(__file__).parents[2] / "lightning_logs" / "screenshots"
QUIET = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-sync", "--window-size=1500,1400", *QUIET]
DEEP = """
const found = [];
let drawn = 0;
(function walk(node) {
  if (node.nodeType === 3) found.push(node.textContent);
  if (node.tagName === 'IMG' && node.naturalWidth > 0) drawn += 1;
  if (node.shadowRoot) walk(node.shadowRoot);
  node.childNodes.forEach(walk);
})(document.body);
return found.concat(`${drawn} images drawn`).join(' ');
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(not shutil.which("chromedriver"), reason="needs Debian's chromium and chromium-driver"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def text_within(browser: Any, wanted: list[str], seconds: float = 60) -> str:
    """The page's text, that of its frames too, once all that is wanted is there."""
    deadline, text = time.monotonic() + seconds, ""
    while time.monotonic() < deadline:
        browser.switch_to.default_content()
        text = str(browser.execute_script(DEEP))
        for frame in browser.find_elements("css selector", "iframe"):
            browser.switch_to.frame(frame)
            text += str(browser.execute_script(DEEP))
            browser.switch_to.default_content()
        if all(part in text for part in wanted):
            return text
        time.sleep(0.5)
    raise AssertionError(f"{[part for part in wanted if part not in text]} not in {text[:2000]}")


def look(browser: Any, name: str) -> None:
    """Keeps a screenshot for a person to look at."""
    SCREENSHOTS.mkdir(exist_ok=True)
    time.sleep(3)  # charts are drawn a little after their titles
    browser.save_screenshot(str(SCREENSHOTS / f"{name}.png"))


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("board")
    for rule in (110, 30):
        given = [f"--data.rule={rule}", f"--trainer.default_root_dir={folder}", "--trainer.enable_progress_bar=false"]
        main(["fit", "--config", str(CONF / "automaton.yaml"), *given])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]
    server = subprocess.Popen([*command, "--load_fast=false"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait(10)


@pytest.mark.parametrize(
    ("tab", "wanted"),
    [
        ("images", ["staircase/levels", "staircase/margins", "staircase/labels", "6 images drawn"]),
        (
            "custom_scalars",
            ["held-out accuracy", "gradient norm against its tolerance", "seconds a block", "Matches (6)"],
        ),
        ("hparams", ["data.rule", "final/levels_learned"]),
        ("text", ["CellularAutomaton", "rule: 110"]),
        ("scalars", ["accuracy", "gradient_norm"]),
    ],
)
def test_tensorboard_shows_it(tab: str, wanted: list[str], browser: Any, board: str) -> None:
    browser.get(f"{board}/#{tab}")
    browser.refresh()
    try:
        text_within(browser, wanted)
    finally:
        browser.switch_to.default_content()
        look(browser, tab)


def test_the_report_of_an_experiment_shows_its_figures(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("experiment.yaml").write_text(yaml.safe_dump({"configs": {"ring": str(CONF / "automaton.yaml")}, "seeds": 1}))
    main(["experiment", "staircase", "--config", "experiment.yaml"])
    browser.get((tmp_path / "lightning_logs/staircase/version_0/report.html").as_uri())
    text = text_within(browser, ["Question", "Verdict", "rank_correlation", "blocks trained"])
    assert "held-out accuracy" in text
    assert len(browser.find_elements("css selector", "figure svg")) == 3
    look(browser, "report")
