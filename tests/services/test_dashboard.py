"""The dashboard in a real Chromium, with a real node under load: what is seen, by keyboard, in light and dark, and what
hostile names and messages come to."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.process.kit import Node, eventually, failure, place, running
from toolring import Client

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason="needs Chromium: apt install chromium chromium-driver"),
]

ANY = "127.0.0.1:0"
TOKEN = "0123456789abcdef"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
TOOLS = """
from toolring import tool

@tool(read_only=True, cache=60)
def look_up(key: int) -> int:
    return key

@tool
def refuse(why: str) -> None:
    print("about to refuse", why)
    raise ValueError(why)
"""

SETTINGS = """
[alerting]
interval = 0.5

[alerts.refusals]
figure = "error_rate"
tool = "refuse"
above = 0.5
window = "5m"
minimum = 1
severity = "critical"
"""


class Page:
    """One window, and what it has asked for."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str) -> Page:
        self.driver.get("about:blank")
        self.driver.get(url)
        return self

    def all(self, selector: str) -> list[Any]:
        return [one for one in self.driver.find_elements(By.CSS_SELECTOR, selector) if one.is_displayed()]

    def until(self, selector: str, text: str = "") -> Any:
        """The first that is seen and holds the text."""

        def found() -> Any:
            return next((one for one in self.all(selector) if text in one.text), None)

        return eventually(lambda: _calm(found), f"{selector} with {text!r}")

    def gone(self, selector: str) -> None:
        eventually(lambda: _calm(lambda: not self.all(selector)), f"no {selector}")

    def text(self, selector: str) -> str:
        return " ".join(one.text for one in self.all(selector))

    def type(self, *keys: str) -> None:
        self.driver.switch_to.active_element.send_keys(*keys)

    def size(self, width: int, height: int) -> None:
        facts = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", facts)

    def prefers(self, scheme: str) -> None:
        facts = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", facts)

    def script(self, text: str) -> Any:
        return self.driver.execute_script(text)

    def colour(self) -> str:
        return str(self.script("return getComputedStyle(document.body).backgroundColor"))

    def faults(self) -> list[str]:
        """Errors and warnings of the console."""
        return [one["message"] for one in self.driver.get_log("browser") if one["level"] in ("SEVERE", "WARNING")]

    def origins(self) -> set[str]:
        """Whom the page has asked for anything."""
        entries = self.script(
            "return performance.getEntries().map((one) => one.name).filter((one) => one.includes('://'))"
        )
        return {urlsplit(one).netloc for one in entries}


def _calm(look: Any) -> Any:
    """An element that was replaced meanwhile is looked for again."""
    try:
        return look()
    except StaleElementReferenceException:
        return None


@contextmanager
def browser(directory: Path) -> Iterator[Page]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={directory / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=str(CHROMEDRIVER)))
    try:
        page = Page(driver)
        page.size(1280, 800)
        yield page
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with place() as directory, browser(directory) as page:
        yield page


def load(client: Client) -> None:
    for key in range(200):
        client.call("look_up", {"key": key % 20})
    failure(lambda: client.call("refuse", {"why": HOSTILE}))
    failure(lambda: client.call("refuse", {"why": "no"}, timeout=5.0))


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """Under load until the charts have two points."""
    with place() as directory:
        file = directory / "tools.py"
        file.write_text(TOOLS)
        (directory / "toolring.toml").write_text(SETTINGS)
        with running(file, directory=directory, TOOLRING_DASHBOARD_LISTEN=ANY) as node:
            with node.client(caller="<b>agent</b>") as client:
                end = time.monotonic() + 12
                while time.monotonic() < end:
                    load(client)
            yield node


def address(node: Node, view: str = "overview") -> str:
    return f"{node.status()['dashboard']}/#/{view}"


def test_charts_and_tiles_show_the_load_without_a_fault_or_a_request_elsewhere(node: Node, page: Page) -> None:
    page.open(address(node)).until("#state", "healthy")
    page.until("figure .line")
    for title in ("Throughput", "Response time", "Errors", "Cache hits", "Memory"):
        chart = page.until("figure", title)
        marks = chart.find_elements(By.CSS_SELECTOR, ".line, .dot, .block, .heat")
        assert marks, title
        assert chart.find_elements(By.CSS_SELECTOR, "svg")[0].get_attribute("aria-label").startswith(title)
    assert page.until("figure", "Spread of response times").find_elements(By.CSS_SELECTOR, ".heat")
    assert page.text(".tiles").count("/s") == 1
    assert "TOOL_ERROR" in page.until("figure", "Errors").text
    assert page.faults() == []
    assert page.origins() == {urlsplit(address(node)).netloc}


def test_what_fires_stands_above_all_views_and_leads_to_what_it_is_about(node: Node, page: Page) -> None:
    text = "refusals: error_rate of tool refuse is 1, above 0.5"
    page.open(address(node, "jobs")).until("#alerts li.critical", text)
    assert " firing " in page.driver.title
    page.until("#alerts a", text).send_keys(Keys.ENTER)
    page.until("#nav a[aria-current]", "Tools")


def test_a_chart_can_be_read_by_keyboard_and_as_a_table(node: Node, page: Page) -> None:
    chart = page.open(address(node)).until("figure", "Throughput")
    page.until("figure .line")
    chart.find_element(By.CSS_SELECTOR, "svg").send_keys(Keys.END)
    assert "/s" in page.until("figure .tip", "answered").text
    chart.find_element(By.CSS_SELECTOR, "svg").send_keys(Keys.ESCAPE)
    page.gone("figure .tip")
    button = chart.find_element(By.CSS_SELECTOR, "button")
    button.send_keys(Keys.ENTER)
    assert button.get_attribute("aria-pressed") == "true"
    assert len(chart.find_elements(By.CSS_SELECTOR, "tbody tr")) >= 2
    button.send_keys(Keys.ENTER)
    eventually(lambda: not [row for row in chart.find_elements(By.CSS_SELECTOR, "tbody tr") if row.is_displayed()])


def test_views_have_keys_and_the_keys_are_listed(node: Node, page: Page) -> None:
    page.open(address(node)).until("#nav a[aria-current]", "Overview")
    for key, title in (("2", "Tools"), ("3", "Workers"), ("4", "Jobs"), ("1", "Overview")):
        page.type(key)
        page.until("#nav a[aria-current]", title)
    page.type("?")
    assert "Pause" in page.until("dialog", "Keyboard shortcuts").text
    page.type(Keys.ESCAPE)
    page.gone("dialog")
    page.type("p")
    page.until("#pause[aria-pressed=true]", "Paused")
    page.type("p")
    page.until("#pause[aria-pressed=false]")
    page.type("/")
    page.until("#nav a[aria-current]", "Jobs")
    assert page.driver.switch_to.active_element.get_attribute("id") == "jobs-words"
    page.type("2?")
    assert not page.all("dialog"), "what is typed there is no command"


def test_all_that_can_be_pressed_has_a_name_and_shows_its_focus(node: Node, page: Page) -> None:
    for view in ("overview", "tools", "workers", "jobs"):
        page.open(address(node, view)).until("#state", "healthy")
        for one in page.all("button, a, select, input, svg[tabindex]"):
            name = one.accessible_name
            assert name, one.get_attribute("outerHTML")
    page.open(address(node)).until("#nav a[aria-current]", "Overview")
    page.type(Keys.TAB)
    style = "return getComputedStyle(document.activeElement)"
    assert page.script(f"{style}.outlineStyle") == "solid"
    assert page.script(f"{style}.outlineWidth") == "2px"


def test_light_and_dark_are_those_of_the_system_until_somebody_chooses(node: Node, page: Page) -> None:
    page.prefers("light")
    page.open(address(node)).until("#state", "healthy")
    light = page.colour()
    page.prefers("dark")
    dark = page.colour()
    assert light != dark
    page.type("t")
    page.until("#theme", "light")
    assert page.colour() == light
    page.open(address(node)).until("#theme", "light")
    assert page.colour() == light
    page.type("t")
    page.prefers("light")
    page.until("#theme", "dark")
    assert page.colour() == dark
    page.type("t")
    page.until("#theme", "auto")


def test_a_hostile_message_name_or_caller_is_text(node: Node, page: Page) -> None:
    page.open(address(node, "jobs")).until("tbody tr")
    page.type("/")
    page.type("refuse tool_error")
    page.until("tbody td", "TOOL_ERROR")
    eventually(lambda: _calm(lambda: {one.text for one in page.all("tbody td:nth-child(2)")} == {"refuse"}), "only it")
    assert "<b>agent</b>" in page.text("tbody tr")
    links = page.all("tbody a")
    for link in links[:2]:  # the last two: one of each message
        link.click()
        page.until(".life h3", link.get_attribute("title"))
        story = page.until(".life", "accepted from caller").text
        if HOSTILE in story:
            break
    else:
        raise AssertionError("nobody told of it")
    assert "Traceback" in story
    page.until(".life .output .text", f"about to refuse {HOSTILE}")
    assert page.all(".life .strip")
    page.type(Keys.ESCAPE)
    page.gone(".life")
    hostile = "%3Cimg%20src%3Dx%20onerror%3Ddocument.title%3D'owned'%3E"
    page.open(address(node, f"jobs/{hostile}"))
    page.until(".life .empty", "<img src=x onerror=document.title='owned'>")
    assert page.script("return document.querySelectorAll('main img, main script, main b').length") == 0
    assert "owned" not in page.driver.title
    faults = page.faults()
    assert len(faults) == 1, faults
    assert "404" in faults[0], "that job was asked for, once"


def test_the_ring_is_drawn_with_what_each_slot_has(node: Node, page: Page) -> None:
    page.open(address(node, "workers")).until(".ring-card", "Ring of group default")
    assert len(page.script("return [...document.querySelectorAll('.ring .keys')]")) == 2
    assert len(page.script("return [...document.querySelectorAll('.ring .runs')]")) >= 1
    shares = [float(one.text.split(" %")[0]) for one in page.all(".ring-card tbody td:nth-child(3)")]
    assert sum(shares) == pytest.approx(100.0, abs=0.2)
    assert len(page.all(".card > .table tbody tr")) >= 2


def test_tools_are_sorted_and_filtered(node: Node, page: Page) -> None:
    page.open(address(node, "tools")).until("tbody th", "look_up")
    head = page.until("thead button", "Tool")
    head.send_keys(Keys.ENTER)
    assert [one.text for one in page.all("section > .card:nth-of-type(2) tbody th")][:2] == ["look_up", "refuse"]
    head.send_keys(Keys.ENTER)
    assert [one.text for one in page.all("section > .card:nth-of-type(2) tbody th")][:2] == ["refuse", "look_up"]
    assert page.all("th[aria-sort=descending]")
    page.type("/")
    page.type("look")
    eventually(lambda: _calm(lambda: "refuse" not in page.text("section > .card:nth-of-type(2)")), "only one")


def test_a_tool_beyond_the_busiest_is_found_by_the_filter(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "many.py"
    file.write_text(
        "from toolring import tool\n"
        "for number in range(101):\n"
        "    def one() -> None: ...\n"
        "    one.__name__ = one.__qualname__ = f'tool_{number:03}'\n"
        "    globals()[one.__name__] = tool(one)\n"
    )
    with running(file, TOOLRING_DASHBOARD_LISTEN=ANY) as node, node.client() as client:
        for number in range(101):
            client.submit(f"tool_{number:03}", {}).result()
            if number < 100:
                client.call(f"tool_{number:03}", {})
        page.open(address(node, "tools")).until("section p.quiet", "The 100 busiest; 1 others are left out")
        assert "tool_100" not in page.text("tbody th")
        page.type("/")
        page.type("tool_100")
        page.until("tbody th", "tool_100")


def test_services_stand_below_the_tools_if_there_are_any(node: Node, page: Page, tmp_path: Path) -> None:
    page.open(address(node, "tools")).until("tbody th", "look_up")
    assert "Services" not in page.text("h2")
    file = tmp_path / "buys.py"
    file.write_text("from toolring import Service, tool\n@tool\ndef buy(shop: Service) -> None:\n    shop.get('/')\n")
    (tmp_path / "toolring.toml").write_text(
        '[services.shop]\nretries = 0\nendpoints = ["http://127.0.0.1:9"]\n'
        "breaker = {minimum = 4, window = 10, wait = 1000.0}\n"
        "[alerting]\ninterval = 0.1\n"
    )
    with running(file, directory=tmp_path, workers=1, TOOLRING_DASHBOARD_LISTEN=ANY) as other, other.client() as client:
        for _ in range(6):
            failure(lambda: client.call("buy", {}))
        page.open(address(other, "tools")).until("h2", "Services, since the start")
        for told in ("http://127.0.0.1:9", "open 1/1", "4 (100"):
            page.until("tbody tr", told)
        assert "#/tools" in page.until("#alerts a", "circuit_open of service shop").get_attribute("href")
        assert page.faults() == []


def test_it_fits_a_narrow_window(node: Node, page: Page) -> None:
    page.size(400, 800)
    try:
        for view in ("overview", "tools", "workers", "jobs"):
            page.open(address(node, view)).until("#state", "healthy")
            assert page.script("return document.documentElement.scrollWidth <= innerWidth"), view
    finally:
        page.size(1280, 800)


def test_a_node_that_is_new_has_nothing_to_show_yet_and_says_so(page: Page) -> None:
    with running(TOOLRING_DASHBOARD_LISTEN=ANY) as node:
        page.open(address(node)).until("figure .empty", "No jobs yet.")
        assert len(page.all("figure .empty")) >= 5
        page.open(address(node, "jobs")).until("main .empty", "No jobs yet.")
        page.open(address(node, "tools")).until("main .empty", "No jobs in this window yet.")
        assert page.faults() == []


def test_it_says_when_the_node_is_gone_and_goes_on_when_it_is_back(page: Page) -> None:
    with running(TOOLRING_DASHBOARD_LISTEN=ANY) as node:
        where = address(node)
        port = urlsplit(where).port
        pid = node.pid
        page.open(where).until("#about", f"pid {pid}")
        node.process.terminate()
        node.wait()
        page.until("#lost", "No answer from the node since")
        page.until("#state", "lost")
        node._env["TOOLRING_DASHBOARD_LISTEN"] = f"127.0.0.1:{port}"
        node.start()
        node.until_ready()
        page.gone("#lost")
        page.until("#about", f"pid {node.pid}")
    page.driver.get_log("browser")


def test_a_token_is_asked_for_or_taken_from_the_fragment_and_leaves_the_address(page: Page) -> None:
    with running(TOOLRING_DASHBOARD_LISTEN=ANY, TOOLRING_DASHBOARD_TOKEN=TOKEN) as node:
        root = str(node.status()["dashboard"])
        page.open(f"{root}/").until("#token", "asks for its token")
        page.type("wrong", Keys.ENTER)
        page.until("#token-wrong", "That is not the token.")
        page.type(TOKEN, Keys.ENTER)
        page.until("#state", "healthy")
        page.gone("#token")
        page.script("sessionStorage.clear()")
        page.open(f"{root}/#token={TOKEN}").until("#state", "healthy")
        assert TOKEN not in page.driver.current_url
        assert not page.all("#token")
        assert page.script("return document.cookie") == ""
    page.driver.get_log("browser")
