"""Every page in a real, headless Chromium, against a server that the test starts on loopback."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browsing import EVERY_PAGE, OPENS_WITH, PAGES, Visit, cut, levels, on_each_other, plot_widths

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("name", PAGES)
def test_a_page_renders_its_charts_and_a_control_redraws_them(visit: Visit, name: str) -> None:
    page = PAGES[name]
    visit.open(page.address, page.charts)
    visit.healthy()
    visit.changes(lambda: page.act(visit))
    visit.healthy()
    assert len(visit.charts()) == page.charts


def test_the_navigation_leads_to_every_page(visit: Visit) -> None:
    visit.open("", 1)
    links = visit.tab.locator('[data-testid="stSidebarNavLink"]')
    names = [name.strip() for name in links.all_inner_texts()]
    assert set(names) >= {*PAGES, *OPENS_WITH}
    titles: set[str] = set()
    for place, name in enumerate(names):
        links.nth(place).click()
        visit.tab.wait_for_function(
            "seen => !seen.includes(document.querySelector('[data-testid=stMain] h1')?.innerText)",
            arg=sorted(titles),
        )
        if name in {*PAGES, *OPENS_WITH}:
            visit.settled(OPENS_WITH.get(name, PAGES[name].charts if name in PAGES else 0))
        title = visit.tab.locator('[data-testid="stMain"] h1').first.inner_text()
        assert "?" in title
        titles.add(title)
        visit.healthy()
    assert visit.server.watched() == 0  # a checkout with environments is more than may be watched


@pytest.mark.parametrize(
    "visit", [{"viewport": {"width": 768, "height": 1000}, "color_scheme": "dark"}], indirect=True
)
@pytest.mark.parametrize("name", PAGES)
def test_a_narrow_dark_window_shows_everything(visit: Visit, name: str) -> None:
    page = PAGES[name]
    visit.open(page.address, page.charts)
    visit.healthy()
    overhang = visit.tab.evaluate(
        """() => {
            const main = document.querySelector('[data-testid=stMain]');
            return main.scrollWidth - main.clientWidth;
        }"""
    )
    assert overhang <= 0
    background = visit.tab.evaluate(
        "getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
    )
    assert max(int(part) for part in re.findall(r"\d+", background)[:3]) < 60


def test_a_copied_link_opens_the_same_view_and_back_undoes_a_step(visit: Visit) -> None:
    visit.open("gradient_signals", 1)
    first = levels(visit)
    visit.tab.get_by_role("button", name="Multi-hit").click()
    visit.tab.wait_for_url("**/gradient_signals?group=*")
    hit, link = levels(visit, unlike=first), visit.tab.url
    visit.tab.go_back()
    assert levels(visit, unlike=hit) == first
    visit.tab.go_forward()
    assert levels(visit, unlike=first) == hit
    visit.tab.goto("about:blank")
    visit.open(link.removeprefix(f"{visit.server.address}/"), 1)
    assert levels(visit) == hit
    visit.healthy()


@pytest.mark.drill
@pytest.mark.parametrize("name", PAGES)
def test_every_page_can_be_linked_and_walked_back_to(visit: Visit, name: str) -> None:
    page = PAGES[name]
    visit.open(page.address, page.charts)
    before, address = visit.drawing(), visit.tab.url
    visit.changes(lambda: page.act(visit))
    visit.tab.wait_for_function("before => location.href !== before", arg=address)
    after, link = visit.drawing(), visit.tab.url
    assert after != before
    visit.changes(visit.tab.go_back)
    assert visit.drawing() == before
    visit.changes(visit.tab.go_forward)
    assert visit.drawing() == after
    visit.tab.goto("about:blank")
    visit.open(link.removeprefix(f"{visit.server.address}/"), page.charts)
    assert visit.drawing() == after
    visit.healthy()


def test_five_questions_lead_a_newcomer_to_the_view_that_answers_each(visit: Visit) -> None:
    visit.open("", 1)
    compare = visit.tab.get_by_role("link", name="When is plain SFT as good?")
    compare.click()
    visit.tab.wait_for_url("**strategy_1=sft*")
    visit.settled(1)
    assert visit.tab.locator('[data-testid="stSidebar"] [data-testid="stPageLink"]').count() == 5
    visit.tab.get_by_role("link", name="What does ReCast change?").click()
    visit.tab.locator("#linked .ring").first.wait_for(state="attached")  # the anchor's slot
    visit.healthy()


def test_a_page_that_one_comes_back_to_is_as_it_was_left(visit: Visit) -> None:
    visit.open("learnability?group=8", 2)
    links = visit.tab.locator('[data-testid="stSidebarNavLink"]')
    links.filter(has_text="One prompt").click()
    visit.tab.get_by_role("button", name="Next").wait_for()
    links.filter(has_text="Learnability").click()
    visit.tab.wait_for_url("**/learnability?group=8")
    visit.settled(2)
    visit.healthy()


def test_an_address_with_markup_in_it_stays_text(visit: Visit) -> None:
    visit.tab.on("dialog", lambda dialog: visit.complaints.append(dialog.message))
    visit.open("gradient_signals?group=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&width=%3Cb%3E", 1)
    shown = visit.tab.get_by_test_id("stAlert").all_inner_texts()
    assert any("<img src=x onerror" in text for text in shown)
    assert any("<b>" in text and "width" in text for text in shown)
    assert visit.tab.locator("[data-testid=stMain] img").count() == 0
    visit.healthy()


def test_a_picture_and_its_numbers_can_be_taken_away(visit: Visit, tmp_path: Path) -> None:
    pytest.importorskip("vl_convert", reason="pictures need vl-convert-python")
    visit.open("gradient_signals?part=table", 2)
    begins = {"PNG": b"\x89PNG", "SVG": b"<svg", "PDF": b"%PDF", "CSV": b"strategy,slot,weight"}
    for kind, begin in begins.items():
        with visit.tab.expect_download() as download:
            visit.tab.locator(f".st-key-download-advantages-{kind} button").first.click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        assert path.name == f"advantages.{kind.lower()}"
        assert path.read_bytes().startswith(begin)
    visit.healthy()


def test_a_claim_is_one_click_away_from_its_rule_and_its_command(visit: Visit) -> None:
    visit.open("claims", 0)
    visit.tab.get_by_role("radio", name="C9").check(force=True)
    visit.tab.get_by_role("heading", name="C9:").wait_for()
    visit.tab.get_by_text("recast claims --claim C9").wait_for()
    visit.tab.wait_for_url("**claim=C9*")
    visit.healthy()


@pytest.mark.drill
@pytest.mark.parametrize("name", EVERY_PAGE)
def test_a_page_is_short_whole_accessible_and_in_reach_of_the_keyboard(
    visit: Visit, axe: Path, name: str
) -> None:
    visit.open(*EVERY_PAGE[name])
    assert visit.length() <= 3 * 800
    assert min(plot_widths(visit), default=800) >= 200
    chosen = visit.tab.locator('[data-testid="stMain"] input[role=combobox]').evaluate_all(
        "boxes => boxes.filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.value)"
    )
    assert chosen == []
    assert cut(visit) == []
    assert on_each_other(visit) == []
    visit.tab.add_script_tag(path=str(axe))
    assert faults(visit) == []
    controls = number_controls(visit)
    radios = visit.tab.locator('[data-testid="stMain"] input[type=radio]')
    assert controls or radios.count()
    assert not_reached(visit, controls) == []
    if radios.count():
        radios.first.focus()
        assert visit.tab.evaluate("document.activeElement.type") == "radio"
    visit.healthy()


@pytest.mark.drill
@pytest.mark.parametrize(
    "visit",
    [{"viewport": {"width": 768, "height": 1000}, "color_scheme": "dark"}],
    indirect=True,
    ids=str,
)
@pytest.mark.parametrize("name", EVERY_PAGE)
def test_nothing_is_black_on_black_or_cut_and_axe_finds_nothing_in_the_narrow_dark(
    visit: Visit, axe: Path, name: str
) -> None:
    visit.open(*EVERY_PAGE[name])
    visit.length()  # once it stands still
    assert cut(visit) == []
    assert on_each_other(visit) == []
    assert unseen(visit) == []
    visit.tab.add_script_tag(path=str(axe))
    assert faults(visit) == []


def unseen(visit: Visit) -> list[str]:
    """Words and marks of the pictures that hardly differ from the black page below them. Grid
    lines, bands and what lies there to be pointed at are faint on purpose."""
    found: list[str] = visit.tab.evaluate(
        r"""() => {
            const roots = [document, ...[...document.querySelectorAll('*')]
                .map(one => one.shadowRoot).filter(one => one)];
            const marks = roots.flatMap(root => [...root.querySelectorAll(
                ['svg.marks', '#linked svg', '#growing svg'].flatMap(picture =>
                    ['text', 'path', 'line', 'circle', 'rect'].map(mark => `${picture} ${mark}`)
                ).join())]);
            const bright = (colour, faded) => {
                const [red, green, blue, alpha = 1] = colour.match(/[\d.]+/g).map(Number);
                const linear = part => part <= 0.04045
                    ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
                const share = alpha * faded;
                return [[0.2126, red], [0.7152, green], [0.0722, blue]].map(
                    ([weight, part]) => weight * linear(part / 255 * share)
                ).reduce((sum, part) => sum + part) / 0.05 + 1;
            };
            return marks.filter(mark => {
                if (mark.closest('.role-axis-grid, .mark-area, .background, .grid, .axis'))
                    return false;
                if (!mark.getBoundingClientRect().width && !mark.getBoundingClientRect().height)
                    return false;
                const style = getComputedStyle(mark);
                let faded = 1;
                for (let one = mark; one.nodeName !== 'svg'; one = one.parentElement)
                    faded *= getComputedStyle(one).opacity;
                const shown = [['fill', style.fillOpacity], ['stroke', style.strokeOpacity]]
                    .filter(([kind, share]) => /^rgb/.test(style[kind]) && share * faded > 0.5
                        && !style[kind].endsWith(', 0)'))
                    .map(([kind, share]) => bright(style[kind], share * faded));
                const least = mark.nodeName === 'text' ? 4.5 : 1.8;
                return shown.length && style.visibility !== 'hidden' && Math.max(...shown) < least;
            }).map(mark => `${mark.outerHTML.slice(0, 160)} ${getComputedStyle(mark).fill}`);
        }"""
    )
    return found


def faults(visit: Visit) -> list[str]:
    """What axe finds on the page as it is, once nothing fades any more: colours on their way from
    one to another have a contrast that nobody reads."""
    visit.tab.wait_for_function(
        """() => !document.querySelector('[data-stale="true"]')
            && document.getAnimations().every(one => one.playState !== 'running'
                || one.effect.getComputedTiming().endTime === Infinity)"""
    )
    found = visit.tab.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [f"{fault['id']}: {fault['nodes'][0]['html'][:200]}" for fault in found]


def number_controls(visit: Visit) -> list[str]:
    """Gives each control that the Tab key should reach its place; their markup."""
    found: list[str] = visit.tab.evaluate(
        """() => {
            const main = document.querySelector('[data-testid=stMain]');
            const kinds = 'button, input, textarea, select, a[href], summary, [role=slider]';
            const found = [...main.querySelectorAll(kinds)].filter(one =>
                !one.disabled && one.tabIndex >= 0 && one.type !== 'radio' && one.role !== 'radio'
                && one.checkVisibility({visibilityProperty: true, opacityProperty: true}));
            found.forEach((one, place) => { one.dataset.place = place; });
            return found.map(one => one.outerHTML.slice(0, 160));
        }"""
    )
    return found


def not_reached(visit: Visit, controls: list[str]) -> list[str]:
    """The controls that the Tab key does not reach, from the title on."""
    reached: set[int] = set()
    visit.tab.evaluate("document.querySelector('[data-testid=stMain] h1').focus()")
    for _ in range(3 * len(controls) + 60):
        visit.tab.keyboard.press("Tab")
        place = visit.tab.evaluate("document.activeElement?.dataset?.place ?? null")
        if place is not None:
            reached.add(int(place))
        if len(reached) == len(controls):
            break
    return [html for place, html in enumerate(controls) if place not in reached]


def test_a_name_that_is_pointed_at_or_clicked_in_a_legend_lights_up_alone(visit: Visit) -> None:
    visit.open("learnability?strategies=grpo&strategies=sft", 2)
    picture = visit.tab.locator('[data-testid="stVegaLiteChart"]').nth(1)
    name = picture.locator(".role-legend-label text", has_text="sft")

    def faint(lines: int) -> None:
        visit.tab.wait_for_function(
            """lines => [...[...document.querySelectorAll('[data-testid="stVegaLiteChart"]')][1]
                .querySelectorAll('svg .mark-line path')].filter(
                    line => Number(line.getAttribute('opacity') ?? 1) < 0.5).length === lines""",
            arg=lines,
        )

    def away() -> None:
        box = picture.bounding_box()
        visit.tab.mouse.move(box["x"] + 100, box["y"] - 10, steps=8)

    faint(0)
    name.hover()
    for shift in (1, 2):  # a pointer that stands still follows an event late
        name.hover(position={"x": 4 + shift, "y": 4})
    faint(2)  # grpo, in both panels
    away()
    faint(0)
    name.click()
    away()
    faint(2)
    visit.healthy()


@pytest.mark.drill
def test_a_name_in_the_legend_of_facets_lights_up_in_each_of_them(visit: Visit) -> None:
    visit.open("train_live?part=regimes", 1)
    facets = visit.tab.locator('[data-testid="stVegaLiteChart"]').last
    name = facets.locator(".role-legend-label text", has_text="single-hit")
    name.scroll_into_view_if_needed()
    for shift in (0, 1, 2):  # a pointer that stands still follows an event late
        name.hover(position={"x": 4 + shift, "y": 4})
    visit.tab.wait_for_function(
        """() => [...[...document.querySelectorAll('[data-testid="stVegaLiteChart"]')].at(-1)
            .querySelectorAll('svg .mark-area path')].filter(
                area => Number(area.getAttribute('opacity')) < 0.5).length === 12"""
    )  # three other regimes of four strategies
    visit.healthy()
