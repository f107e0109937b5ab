from __future__ import annotations

import base64
import io

import pytest
from finished_pipeline import FinishedPipeline, failure_picture
from PIL import Image

from sskd_core.errors import IntegrityError
from sskd_core.reporting.card import Card, render_card
from sskd_core.storage.manifest import InputRef
from sskd_core.storage.store import ObjectStore
from sskd_core.tracking.lineage import trace


def render(finished: FinishedPipeline) -> Card:
    inputs = finished.register_inputs()
    origins = [InputRef(uri=item.uri, digest=item.digest) for item in inputs.values()]
    return render_card("sskd-student", inputs, trace(origins, finished.store), finished.store.read)


def test_the_card_tells_all_that_a_user_needs(store: ObjectStore) -> None:
    finished = FinishedPipeline(store)
    text = render(finished).markdown
    for part in (
        "# Model card: sskd-student",
        "mask2former network of 0.83 M parameters that finds 2 classes of objects in images: disc, box.",
        "| unlabeled | 60 |",
        "Mask AP in points on 100 images of `test`, by hotcoco 1.3.0, on cpu, one seed.",
        "| refined student | 40.0 | 60.0 | 35.0 | 0.83 M |",
        "| disc | 45.0 |",
        "| fp32 | 2.9 MiB | 40.0 | 0.01 | 1.0e-05 | 2.0e-06 | 12.0 | 15.0 | yes: equal to PyTorch within the limits |",
        "Apache-2.0, CC-BY-4.0",
        "mlflow models serve -m models:/sskd-student@champion",
        finished.manifests["export_onnx"].digest,
    ):
        assert part in text
    # Two teachers and two students, 90 seconds each.
    assert "- 0.100 hours on cpu" in text
    assert text.index("`adapt_teacher`") < text.index("`distill`") < text.index("`refine`")
    assert "Pseudo-labels, round 2: 120 objects in 3 shards." in text


def test_the_page_is_the_same_text_with_the_pictures_inside(store: ObjectStore) -> None:
    card = render(FinishedPipeline(store))
    assert card.pictures == {"failures/00.png": failure_picture()}
    assert "![a\\|b.png](failures/00.png)" in card.markdown
    start = card.html.index("data:image/jpeg;base64,") + len("data:image/jpeg;base64,")
    picture = Image.open(io.BytesIO(base64.b64decode(card.html[start : card.html.index('"', start)])))
    assert picture.size == (8, 4)
    assert card.html.count("<table>") == 5
    assert 'src="failures' not in card.html
    assert "default-src 'none'" in card.html


def test_names_from_outside_stay_text(store: ObjectStore) -> None:
    changes = {"export_onnx": {"facts": {"classes": ["<script>x</script>", "a|b", "*c*"]}}}
    card = render(FinishedPipeline(store, changes=changes))
    assert "<script>" not in card.html
    assert "&lt;script&gt;x&lt;/script&gt;, a|b, *c*" in card.html


def test_a_run_without_the_figures_is_refused(store: ObjectStore) -> None:
    changes = {"export_onnx": {"facts": {"failures": [{"output": "failures/07", "image_id": "a"}]}}}
    finished = FinishedPipeline(store, changes=changes)
    with pytest.raises(IntegrityError, match=r"export_onnx/first-export_onnx/manifest\.json: no model card"):
        render(finished)
