"""SVG is well-formed whatever the text."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from sskd_core.reporting.svg import add, markup, picture


@given(text=st.text(st.characters(), max_size=40))
def test_any_text_gives_well_formed_xml_that_says_it(text):
    root = picture(10, 20, text, "chart")
    add(root, "text", "tick", text, x=1.25, text_anchor=text)
    parsed = ElementTree.fromstring(markup(root))
    written = parsed[0].text or ""
    assert len(written) == len(text)
    assert all(new in (old, "\ufffd") for new, old in zip(written, text, strict=True))


def test_markup_in_text_stays_text():
    root = picture(10, 20, '"><script>', "chart")
    add(root, "text", "tick", "<script>alert(1)</script>")
    assert "<script" not in markup(root)


def test_numbers_are_short():
    root = picture(10, 20.5, "label", "chart")
    add(root, "rect", "bar", x=1.0, y=2.26, stroke_width=3)
    drawn = markup(root)
    assert 'viewBox="0 0 10 20.5"' in drawn
    assert '<rect class="bar" x="1" y="2.3" stroke-width="3" />' in drawn
