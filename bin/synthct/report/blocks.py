"""What a page is made of: sections of text, tables, figures and number cards; the template knows how each looks."""

import base64
from dataclasses import dataclass, field


@dataclass
class Text:
    """A paragraph; `tone` "note" is set smaller."""

    text: str
    tone: str = ""
    kind: str = "text"


@dataclass
class Table:
    """Columns from `first_number` on hold numbers and are set right; `csv` names the file with every row and digit."""

    caption: str
    columns: list[str]
    rows: list[list[str]]
    first_number: int = 1
    csv: str = ""
    folded: bool = False
    kind: str = "table"


@dataclass
class Figure:
    """A PNG, drawn already; `name` is its file name in figures/."""

    name: str
    png: bytes
    alt: str
    caption: str = ""
    kind: str = "figure"

    @property
    def source(self) -> str:
        """The picture as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on the page, 100 CSS pixels an inch, from the picture's own header."""
        at = self.png.index(b"pHYs")  # pixels a metre, written by every figure of ours
        per_inch = round(int.from_bytes(self.png[at + 4 : at + 8], "big") * 0.0254)
        width, height = (int.from_bytes(self.png[at : at + 4], "big") for at in (16, 20))
        return round(100 * width / per_inch), round(100 * height / per_inch)

    @property
    def wide(self) -> bool:
        """Whether it needs more than half the column: on a phone it then scrolls inside itself."""
        return self.size[0] > 500


@dataclass
class Panels:
    """Figures side by side where there is room, below each other on a phone."""

    figures: list[Figure]
    caption: str = ""
    columns: int = 2
    kind: str = "panels"


@dataclass
class Cards:
    """A row of headline numbers: (value, unit, what it is)."""

    cards: list[tuple[str, str, str]]
    title: str = ""
    kind: str = "cards"


@dataclass
class Section:
    """A part of the page with a place in the navigation."""

    id: str
    title: str
    lead: str = ""
    blocks: list = field(default_factory=list)

    @property
    def figures(self) -> list[Figure]:
        """All figures of the section, those in panels too."""
        found = []
        for block in self.blocks:
            found += [block] if isinstance(block, Figure) else block.figures if isinstance(block, Panels) else []
        return found
