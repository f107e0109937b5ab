"""Building SVG as a tree, so that it is well-formed and escaped by construction.

The page's style sheet colours it through class names, which is how one picture serves a light and a dark page.
"""

from __future__ import annotations

import unicodedata
from xml.etree import ElementTree

from markupsafe import Markup

Element = ElementTree.Element


def picture(width: float, height: float, label: str, css_class: str) -> Element:
    """Return an empty picture.

    Args:
        width: of its own coordinates; on the page it takes the width of its box.
        height: likewise.
        label: what a screen reader says instead.
        css_class: for the style sheet.
    """
    return ElementTree.Element(
        "svg", {"class": css_class, "viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria-label": clean(label)}
    )


def add(parent: Element, tag: str, css_class: str, text: str | None = None, **attributes: str | float) -> Element:
    """Add an element.

    Args:
        parent: where it goes.
        tag: its name.
        css_class: for the style sheet.
        text: its content.
        attributes: numbers are written with one decimal; `_` in a name stands for `-`.
    """
    written = {name.replace("_", "-"): _written(value) for name, value in attributes.items()}
    child = ElementTree.SubElement(parent, tag, {"class": css_class, **written})
    child.text = None if text is None else clean(text)
    return child


def markup(root: Element) -> Markup:
    """Return the picture for a template; it must not be escaped again."""
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704  a tree escapes its own text


def clean(text: str) -> str:
    """Return `text` without control characters and lone surrogates, which XML cannot hold."""
    return "".join(
        c if unicodedata.category(c) not in ("Cc", "Cs") and c not in "\ufffe\uffff" else "\ufffd" for c in text
    )


def _written(value: str | float) -> str:
    return clean(value) if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
