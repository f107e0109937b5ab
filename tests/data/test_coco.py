"""COCO files: legal oddities are read, and each kind of problem is one line that says where."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sskd_core.data.coco import read_coco
from sskd_core.data.masks import mask_area

SQUARE = [[2, 1, 7, 1, 7, 4, 2, 4]]


def document() -> dict[str, Any]:
    """Two images, three objects, two categories whose ids have gaps and are not in order."""
    return {
        "info": {"year": 2026},
        "images": [
            {"id": 7, "file_name": "b.jpg", "width": 9, "height": 6, "licence": 1},
            {"id": 3, "file_name": "sub/a.jpg", "width": 20, "height": 10},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "segmentation": SQUARE, "iscrowd": 0, "bbox": [0, 0, 1, 1]},
            {"id": 2, "image_id": 7, "category_id": 4, "segmentation": SQUARE, "area": 1e9},
            {
                "id": 5,
                "image_id": 3,
                "category_id": 4,
                "segmentation": {"size": [10, 20], "counts": [5, 10, 185]},
                "iscrowd": 1,
            },
        ],
        "categories": [{"id": 90, "name": "zebra"}, {"id": 4, "name": "cat", "supercategory": "animal"}],
    }


def read(value: Any, classes: list[str] | None = None):
    return read_coco(json.dumps(value).encode(), "labels.json", classes)


def changed(path: list[Any], value: Any) -> dict[str, Any]:
    """Return the document with one value replaced, or removed where `value` is Ellipsis."""
    result = copy.deepcopy(document())
    parent: Any = result
    for step in path[:-1]:
        parent = parent[step]
    if value is ...:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return result


def test_a_legal_file_is_read():
    file = read(document())
    assert file.problems == []
    assert file.classes == ["cat", "zebra"]
    assert file.category_ids == {"cat": 4, "zebra": 90}
    assert set(file.images) == {"b.jpg", "sub/a.jpg"}
    first, second = file.images["b.jpg"].instances
    assert (first.category, second.category) == (1, 0)
    # Box and area follow from the mask, whatever the file says.
    assert first.bbox == (2, 1, 5, 3)
    assert second.area == mask_area(second.rle) == 15
    assert (first.score, first.is_crowd) == (1.0, False)


def test_a_crowd_region_is_legal_and_marked():
    (crowd,) = read(document()).images["sub/a.jpg"].instances
    assert crowd.is_crowd
    assert crowd.area == 10


def test_an_image_without_an_object_is_legal():
    value = document()
    value["annotations"] = value["annotations"][:2]
    file = read(value)
    assert file.problems == []
    assert file.images["sub/a.jpg"].instances == []


def test_an_empty_mask_is_left_out_and_counted():
    file = read(changed(["annotations", 0, "segmentation"], {"size": [6, 9], "counts": [54]}))
    assert file.problems == []
    assert file.empty_masks == 1
    assert len(file.images["b.jpg"].instances) == 1


def test_a_file_with_a_byte_order_mark_is_legal():
    assert read_coco(b"\xef\xbb\xbf" + json.dumps(document()).encode(), "labels.json").problems == []


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (["images", 0, "width"], ..., "images[0] (file_name 'b.jpg'): 'width' is missing"),
        (
            ["images", 0, "height"],
            None,
            "images[0] (file_name 'b.jpg'): 'height' is None: input should be a valid integer",
        ),
        (["images", 0, "height"], 0, "images[0] (file_name 'b.jpg'): 'height' is 0: input should be greater than"),
        (["images", 0, "width"], "9", "'width' is '9': input should be a valid integer"),
        (["images", 0, "width"], 10**6, "'width' is 1000000: input should be less than 65536"),
        (["images", 0, "file_name"], ..., "images[0] (id 7): 'file_name' is missing"),
        (["images", 0, "file_name"], "../b.jpg", "image 7: file_name '../b.jpg' leads outside the image folder"),
        (["images", 0, "file_name"], "a/../../b.jpg", "leads outside the image folder"),
        (["images", 0, "file_name"], "/data/b.jpg", "image 7: file_name '/data/b.jpg' leads outside the image folder"),
        (["images", 0, "file_name"], "C:/b.jpg", "leads outside the image folder"),
        (["images", 0, "file_name"], "sub\\b.jpg", "has a backslash or a control character"),
        (["images", 0, "file_name"], "b\n.jpg", "has a backslash or a control character"),
        (["images", 0, "file_name"], "sub/a.jpg", "image 3: file_name 'sub/a.jpg' is listed twice"),
        (["images", 0, "file_name"], "./sub//a.jpg", "image 3: file_name 'sub/a.jpg' is listed twice"),
        (["images", 0], "b.jpg", "images[0]: 'b.jpg' is not an object"),
        (["images", 1, "id"], 7, "images[1]: the id 7 occurs twice"),
        (["images"], {}, "not a COCO instance file, it has no list of images"),
        (["annotations"], ..., "not a COCO instance file, it has no list of annotations"),
        (["annotations", 0, "id"], 2, "annotations[1]: the id 2 occurs twice"),
        (["annotations", 0, "id"], ..., "annotations[0]: 'id' is missing"),
        (["annotations", 0, "image_id"], 99, "annotation 1: no image has the id 99"),
        (["annotations", 0, "image_id"], "7", "annotations[0] (id 1): 'image_id' is '7'"),
        (["annotations", 0, "category_id"], 5, "annotation 1: no category has the id 5"),
        (["annotations", 0, "category_id"], ..., "annotations[0] (id 1): 'category_id' is missing"),
        (["annotations", 0, "segmentation"], ..., "annotation 1 ('b.jpg'): has no segmentation"),
        (["annotations", 0, "segmentation"], [[1, 1, 2, 2]], "annotation 1 ('b.jpg'): polygon 1 has 2 points"),
        (["annotations", 0, "iscrowd"], 3, "annotations[0] (id 1): 'iscrowd' is 3"),
        (["categories", 0, "id"], 4, "categories[1]: the id 4 occurs twice"),
        (["categories", 0, "name"], "cat", "2 categories have the name 'cat'"),
        (["categories", 0, "name"], ..., "categories[0] (id 90): 'name' is missing"),
        (["categories", 0, "name"], "", "'name' is ''"),
    ],
)
def test_each_problem_is_one_line_that_says_where(path, value, problem):
    problems = read(changed(path, value)).problems
    assert any(line.startswith("labels.json: ") and problem in line for line in problems), problems
    assert not any("\n" in line for line in problems)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["images", 0, "width"], ...),
        (["images", 0, "file_name"], "../b.jpg"),
        (["categories", 0, "name"], ...),
        (["annotations", 0, "segmentation"], [[1, 1, 2, 2]]),
    ],
)
def test_one_mistake_is_one_problem(path, value):
    assert len(read(changed(path, value)).problems) == 1


def test_all_problems_are_found_in_one_pass():
    value = document()
    value["images"][0]["width"] = "nine"
    value["annotations"][1]["image_id"] = 99
    value["annotations"][2]["segmentation"] = [[1, 1, 2, 2]]
    value["categories"].append({"id": 4, "name": "dog"})
    assert len(read(value).problems) == 4


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000], ids=["empty", "cut", "binary", "deep"])
def test_a_file_that_is_not_json_is_one_problem(data):
    (problem,) = read_coco(data, "labels.json").problems
    assert problem.startswith("labels.json: not JSON (")
    assert "\n" not in problem


@pytest.mark.parametrize("value", [[], {}, 3, None, {"images": []}])
def test_json_that_is_not_coco_is_one_problem(value):
    (problem,) = read(value).problems
    assert "not a COCO instance file" in problem


def test_nothing_to_learn_is_a_problem():
    assert "lists no image" in read({**document(), "images": [], "annotations": []}).problems[0]
    assert "has no annotation" in read({**document(), "annotations": []}).problems[0]
    assert any("lists no category" in line for line in read({**document(), "categories": []}).problems)


def test_categories_of_another_file_are_matched_by_name():
    file = read(document(), classes=["ant", "zebra", "cat"])
    assert file.problems == []
    assert file.classes == ["ant", "zebra", "cat"]
    assert [item.category for item in file.images["b.jpg"].instances] == [1, 2]


def test_an_unknown_category_of_another_file_is_a_problem():
    (problem,) = read(document(), classes=["cat", "dog"]).problems
    assert "category 'zebra' is none of the classes (cat, dog)" in problem


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.floats() | st.sampled_from(["b.jpg", "cat", ""]),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
entries = st.lists(
    st.dictionaries(
        st.sampled_from(
            ["id", "file_name", "name", "width", "height", "image_id", "category_id", "segmentation", "iscrowd"]
        ),
        values,
    )
    | values,
    max_size=4,
)


@given(st.fixed_dictionaries({"images": entries, "annotations": entries, "categories": entries}))
def test_no_json_makes_the_reader_fail(value):
    file = read_coco(json.dumps(value).encode(), "labels.json")
    assert all("\n" not in problem for problem in file.problems)
