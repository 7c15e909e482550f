"""Windows, the menu and the dialog to pixels; web pages are in `pages`."""

from ingest.replay.drawn.browser import TOOLBAR_HEIGHT, Browser, address_bar
from ingest.replay.drawn.canvas import Canvas
from ingest.replay.drawn.folder import ROW_HEIGHT, FolderView
from ingest.replay.drawn.icons import draw_emblem
from ingest.replay.drawn.layout import CLOSE_WIDTH, TITLE_HEIGHT, App, Rect
from ingest.replay.drawn.pages import draw_page
from ingest.replay.drawn.scene import MENU_ITEMS, Dialog, Menu, Window
from ingest.replay.drawn.terminal import Terminal
from ingest.replay.drawn.themes import Colour, Theme

_PASTE_ROW = len(MENU_ITEMS) - 1
_MIN_CROSS_PIXELS = 8


def draw_window(canvas: Canvas, window: Window, theme: Theme, *, is_focused: bool) -> None:
    """A window: title bar with its close button, what the app shows, and a border."""
    title = theme.title_focused if is_focused else theme.title_unfocused
    _title_bar(canvas, window.title_bar, window.title, title, theme)
    _close_button(canvas, window.close_button, theme)
    match window.content:
        case Terminal() as terminal:
            _terminal(canvas, window.body, terminal, theme)
        case Browser() as browser:
            _browser(canvas, window, browser, theme)
        case FolderView() as view:
            _folder_view(canvas, window.body, window.app, view, theme)
    canvas.frame(window.rect, theme.border, margin=1)


def draw_menu(canvas: Canvas, menu: Menu, theme: Theme) -> None:
    """The context menu; the last item is disabled."""
    canvas.fill(menu.rect, theme.panel)
    for index, texts in enumerate(MENU_ITEMS):
        item = menu.item(index)
        colour = theme.panel_faint if index == _PASTE_ROW else theme.panel_text
        canvas.label(_inset(item, 8), texts, colour, left=True)
    canvas.frame(menu.rect, theme.border, margin=1)


def draw_dialog(canvas: Canvas, dialog: Dialog, theme: Theme) -> None:
    """The dialog that asks a name: title, field with caret, two buttons."""
    rect = dialog.rect
    canvas.fill(rect, theme.panel)
    title_bar = Rect(rect.x, rect.y, rect.width, TITLE_HEIGHT)
    _title_bar(canvas, title_bar, "New folder", theme.title_focused, theme)
    _field(canvas, dialog.field, dialog.text, theme, has_caret=True)
    for button, texts in (
        (dialog.create_button, ("Create", "OK")),
        (dialog.cancel_button, ("Cancel", "Esc")),
    ):
        canvas.fill(button, theme.panel_faint)
        canvas.label(button, texts, theme.panel_text)
    canvas.frame(rect, theme.border, margin=1)


def _inset(rect: Rect, margin: float) -> Rect:
    return Rect(rect.x + margin, rect.y, rect.width - 2 * margin, rect.height)


def _title_bar(canvas: Canvas, bar: Rect, title: str, colour: Colour, theme: Theme) -> None:
    canvas.fill(bar, colour)
    canvas.label(_inset(bar, CLOSE_WIDTH), (title,), theme.title_text)


def _close_button(canvas: Canvas, button: Rect, theme: Theme) -> None:
    canvas.fill(button, theme.close)
    if min(canvas.size(button)) < _MIN_CROSS_PIXELS:
        return
    x, y = button.x + button.width / 2, button.y + button.height / 2
    canvas.line([(x - 4, y - 4), (x + 4, y + 4)], theme.title_text, 2)
    canvas.line([(x - 4, y + 4), (x + 4, y - 4)], theme.title_text, 2)


def _field(
    canvas: Canvas,
    rect: Rect,
    text: str,
    theme: Theme,
    *,
    has_caret: bool,
    is_marked: bool = False,
) -> None:
    canvas.fill(rect, theme.highlight if is_marked else theme.field)
    if has_caret:
        canvas.frame(rect, theme.highlight)
    lettering = canvas.lettering
    width, height = canvas.size(rect)
    shown = lettering.tail(text, width - 5)
    x = canvas.column(rect.x) + 2
    y = canvas.row(rect.y) + max(height - lettering.font.height + 1, 0) // 2
    canvas.write(x, y, shown, theme.field if is_marked else theme.panel_text)
    if has_caret and not is_marked:
        caret = x + len(shown) * lettering.font.advance
        canvas.mark(caret, y, lettering.font.height, theme.highlight)


def _terminal(canvas: Canvas, body: Rect, terminal: Terminal, theme: Theme) -> None:
    with canvas.clipped(body) as inside:
        inside.fill(body, theme.terminal)
        font = inside.lettering.font
        width, height = inside.size(body)
        num_rows = max((height - 2) // font.line, 1)
        lines = [*terminal.lines, ""]
        end = len(lines) - terminal.scroll
        first = max(end - num_rows, 0)
        for row, line in enumerate(lines[first:end]):
            y = 2 + row * font.line
            if first + row == len(lines) - 1:
                _prompt(inside, y, width, terminal, theme)
            else:
                inside.write(2, y, line[: width // font.advance], theme.terminal_text)


def _prompt(canvas: Canvas, y: int, width: int, terminal: Terminal, theme: Theme) -> None:
    font = canvas.lettering.font
    prompt = canvas.lettering.tail(terminal.prompt, width // 3)
    x = 2 + len(prompt) * font.advance
    text = canvas.lettering.tail(terminal.text, width - x - font.advance - 2)
    canvas.write(2, y, prompt, theme.prompt)
    canvas.write(x, y, text, theme.terminal_text)
    canvas.mark(x + len(text) * font.advance, y, font.height, theme.prompt)


def _browser(canvas: Canvas, window: Window, browser: Browser, theme: Theme) -> None:
    body = window.body
    canvas.fill(Rect(body.x, body.y, body.width, TOOLBAR_HEIGHT), theme.panel)
    canvas.disc(Rect(body.x + 6, body.y + 5, 16, 16), theme.panel_faint)
    bar = address_bar(window.rect)
    field = Rect(bar.x, bar.y + 1, bar.width - 8, bar.height - 2)
    _field(
        canvas,
        field,
        browser.address,
        theme,
        has_caret=browser.editing,
        is_marked=browser.replacing,
    )
    page = Rect(body.x, body.y + TOOLBAR_HEIGHT, body.width, body.height - TOOLBAR_HEIGHT)
    with canvas.clipped(page) as inside:
        draw_page(inside, page, browser.page, browser.scroll)


def _folder_view(canvas: Canvas, body: Rect, app: App, view: FolderView, theme: Theme) -> None:
    canvas.fill(body, theme.field)
    if not view.entries:
        canvas.label(body, ("Folder is empty", "empty"), theme.panel_faint)
        return
    shown = view.entries[view.first : view.first + view.visible_rows]
    for row, entry in enumerate(shown):
        line = Rect(body.x, body.y + row * ROW_HEIGHT, body.width, ROW_HEIGHT)
        is_selected = view.first + row == view.selected
        if is_selected:
            canvas.fill(line, theme.highlight)
        emblem = Rect(line.x + 6, line.y + 4, 16, 16)
        _entry_emblem(canvas, emblem, app, entry, theme)
        text = Rect(line.x + 30, line.y, line.width - 32, ROW_HEIGHT)
        canvas.label(text, (entry,), theme.field if is_selected else theme.panel_text, left=True)


def _entry_emblem(canvas: Canvas, box: Rect, app: App, entry: str, theme: Theme) -> None:
    if "." not in entry:
        draw_emblem(canvas, "folder", box)
        return
    sheet = Rect(box.x + 3, box.y, box.width - 6, box.height)
    canvas.fill(sheet, theme.close if app == "trash" else theme.title_focused)
