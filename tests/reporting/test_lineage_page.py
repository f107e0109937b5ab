from __future__ import annotations

from sskd_core.reporting.lineage_page import oldest_first, render_lineage
from sskd_core.tracking.lineage import Lineage, Step


def step(name: str, *inputs: str, **values: object) -> Step:
    empty = {"config": {}, "config_digest": "", "code_digest": "c", "run_id": None, "licences": [], "facts": {}}
    read = {f"input {number}": item for number, item in enumerate(inputs)}
    uri = f"s3://bucket/{name}.json"
    return Step(
        **{"stage": name, "uri": uri, "digest": name, "inputs": read, "metrics": {}, "outputs": {}, **empty, **values}
    )


STEPS = [step("export", "student"), step("student", "labels", "data"), step("data"), step("labels", "teacher", "data")]
STEPS.append(step("teacher", "data"))


def test_what_was_read_comes_before_its_readers():
    assert [item.stage for item in oldest_first(STEPS)] == ["data", "teacher", "labels", "student", "export"]


def test_hostile_text_is_escaped():
    hostile = "</pre><script>alert(1)</script>"
    steps = [step("export", config={"note": hostile}, licences=[hostile])]
    page = render_lineage(Lineage(hostile, "1", [hostile], {}, steps))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 4
