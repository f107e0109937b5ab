"""Prompts from class names, and class scores from token scores."""

from __future__ import annotations

import json

import pytest
import torch
from grounding_fixtures import WORDS, tokenizer

from sskd_core.errors import ConfigError, IntegrityError
from sskd_core.models.grounding_prompt import CLS, SEP, STOP, PhraseTokenizer, Prompt, Span, make_prompts

IDS = {word: 200 + number for number, word in enumerate(WORDS)}


def document() -> dict:
    return json.loads(tokenizer().backend_tokenizer.to_str())


def phrases_of(data: dict | None = None, vocabulary: int = 1040) -> PhraseTokenizer:
    return PhraseTokenizer(json.dumps(data or document()).encode(), "weights w", vocabulary)


def prompts(classes, length=24, **phrases):
    return make_prompts(
        classes, {name.replace("_", " "): value for name, value in phrases.items()}, phrases_of(), length
    )


def test_a_prompt_is_what_the_processor_of_transformers_makes():
    (prompt,) = prompts(["disc", "traffic_light", "Star"])
    reference = tokenizer()("disc. traffic light. star.")["input_ids"]
    assert list(prompt.ids) == reference
    assert [reference[span.start : span.stop] for span in prompt.spans] == [
        [IDS["disc"]],
        [IDS["traffic"], IDS["light"]],
        [IDS["star"]],
    ]
    assert [span.category for span in prompt.spans] == [0, 1, 2]


def test_synonyms_stand_in_for_the_name_and_belong_to_one_class():
    (prompt,) = prompts(["disc", "box"], disc=["round thing", "disc", "Disc"])
    assert [(span.category, span.stop - span.start) for span in prompt.spans] == [(0, 2), (0, 1), (1, 1)]
    assert prompt.ids[1:3] == (IDS["round"], IDS["thing"])
    assert prompt.categories == [0, 1]


def test_a_long_list_is_split_and_nothing_is_lost():
    classes = ["traffic light", *"abcdefghij"]
    found = prompts(classes, length=9)
    assert all(len(prompt.ids) <= 9 for prompt in found)
    assert all((prompt.ids[0], prompt.ids[-2], prompt.ids[-1]) == (CLS, STOP, SEP) for prompt in found)
    asked = [(span.category, prompt.ids[span.start : span.stop]) for prompt in found for span in prompt.spans]
    assert [category for category, _ in asked] == list(range(11))
    assert asked[0][1] == (IDS["traffic"], IDS["light"])
    assert asked[-1][1] == (IDS["j"],)
    assert [len(prompt.spans) for prompt in found] == [3, 3, 3, 2]  # 2 + 1 + 1 tokens, each with its stop, then 3 x 2


def test_a_prompt_may_be_exactly_as_long_as_the_limit():
    assert len(prompts(list("abc"), length=8)) == 1
    assert len(prompts(list("abc"), length=7)) == 2


def test_truncation_in_the_tokenizer_file_is_not_obeyed():
    data = document()
    data["truncation"] = {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}
    data["padding"] = {
        "strategy": {"Fixed": 8},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    assert phrases_of(data).ids("x", "traffic light") == [IDS["traffic"], IDS["light"]]


@pytest.mark.parametrize(
    ("classes", "phrases", "message"),
    [
        (["disc", "zebra"], {}, "class 'zebra': the phrase 'zebra' holds 'zebra', which the tokenizer does not know"),
        (["traffic 漢 light"], {}, "holds '漢', which the tokenizer does not know"),
        (["  "], {}, "class '  ': the phrase '  ' has no token"),
        (["saint. bernard"], {}, "holds '.' or '\\?', which separate phrases; .*grounding.phrases"),
        (["disc"], {"disc": ["a?"]}, "the phrase 'a\\?' holds '.' or"),
        (["disc", "DISC"], {}, "the phrase 'DISC' would stand for the classes 'disc' and 'DISC'"),
        (["disc"], {"box": ["a"]}, "grounding.phrases: no class 'box'; the classes are: disc"),
        (["a b c d e f g h"], {}, "a phrase of 8 tokens exceeds the 7 that a prompt can hold"),
    ],
    ids=["unknown word", "unknown character", "empty", "stop", "question", "same", "no class", "long"],
)
def test_what_cannot_be_asked_for_is_refused(classes, phrases, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make_prompts(classes, phrases, phrases_of(), 10)
    assert "\n" not in str(caught.value)


def test_another_name_mends_what_cannot_be_asked_for():
    (prompt,) = make_prompts(["st. bernard"], {"st. bernard": ["saint bernard"]}, phrases_of(), 10)
    assert prompt.ids == (CLS, IDS["saint"], IDS["bernard"], STOP, SEP)


def test_a_tokenizer_of_another_text_tower_is_refused():
    other = tokenizer().get_vocab()
    other["."], other["[unused2]"] = 2, 1012
    data = document()
    data["model"]["vocab"] = other
    with pytest.raises(
        IntegrityError, match=r"weights w: tokenizer\.json gives '\.' the id 2, the detector expects 1012"
    ):
        phrases_of(data)
    with pytest.raises(IntegrityError, match=r"knows 1030 tokens, the detector's text tower 900"):
        phrases_of(vocabulary=900)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[1"])
def test_a_damaged_tokenizer_is_refused(data):
    with pytest.raises(IntegrityError, match=r"weights w: tokenizer\.json is not readable") as caught:
        PhraseTokenizer(data, "weights w", 1040)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("style", "wanted"), [("mean", [0.5, 0.9, 0.0]), ("max", [0.6, 0.9, 0.0])])
def test_class_scores_are_those_of_the_best_phrase(style, wanted):
    prompt = Prompt((CLS, 1, 2, STOP, 3, STOP, 4, STOP, SEP), (Span(0, 1, 3), Span(1, 4, 5), Span(1, 6, 7)))
    logits = torch.full((1, 1, 12), -torch.inf)
    logits[0, 0, [1, 2, 3, 4, 6]] = torch.tensor([0.4, 0.6, 0.99, 0.9, 0.1]).logit()
    found = prompt.class_scores(logits, 3, style)
    assert torch.allclose(found, torch.tensor([[wanted]]))


def test_all_phrases_of_a_class_are_wanted():
    prompt = Prompt((CLS, 1, 2, STOP, 3, STOP, 4, STOP, SEP), (Span(4, 1, 3), Span(7, 4, 5), Span(4, 6, 7)))
    found = prompt.token_map(10, torch.device("cpu"))
    assert [row.nonzero().flatten().tolist() for row in found] == [[1, 2, 6], [4]]
    assert found.shape == (2, 10)
