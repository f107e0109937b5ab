"""From class names to the prompts of a grounding detector, and from its token scores back to classes.

A prompt is a sequence of token ids, `[CLS] phrase . phrase . [SEP]`, and the span of each phrase in it. Shape letters:
B images, Q queries, T tokens (padded to the detector's text length), C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from tokenizers import Tokenizer
from torch import Tensor

from sskd_core.errors import ConfigError, IntegrityError

CLS, SEP, STOP, QUESTION = 101, 102, 1012, 1029
"""Token ids of `[CLS]`, `[SEP]`, `.` and `?`: the detector tells phrases apart by these numbers, which are BERT's."""


@dataclass(frozen=True)
class Span:
    """The tokens `start` up to `stop` of a prompt, and the index of the class that they ask for."""

    category: int
    start: int
    stop: int


@dataclass(frozen=True)
class Prompt:
    """One text input of the detector."""

    ids: tuple[int, ...]
    spans: tuple[Span, ...]

    @property
    def categories(self) -> list[int]:
        """The classes that are asked for, ascending."""
        return sorted({span.category for span in self.spans})

    def class_scores(self, logits: Tensor, classes: int, span_score: Literal["mean", "max"]) -> Tensor:
        """Return the score of every class.

        Args:
            logits: [B, Q, T], of the tokens.
            classes: C.
            span_score: how a phrase's score follows from the probabilities of its tokens. The mean is what MMDetection
                takes, the maximum what `transformers` does.

        Returns:
            [B, Q, C] in 0..1; a class has the score of its best phrase, and 0 when the prompt does not ask for it.
        """
        probability = logits.float().sigmoid()
        scores = probability.new_zeros(*logits.shape[:2], classes)
        for span in self.spans:
            tokens = probability[..., span.start : span.stop]
            score = tokens.mean(-1) if span_score == "mean" else tokens.amax(-1)
            scores[..., span.category] = torch.maximum(scores[..., span.category], score)
        return scores

    def token_map(self, length: int, device: torch.device) -> Tensor:
        """Return which tokens ask for which class, 0 or 1.

        Args:
            length: T.
            device: of the result.

        Returns:
            [number of `categories`, T], int64, rows in their order; all phrases of a class count.
        """
        rows = {category: row for row, category in enumerate(self.categories)}
        wanted = torch.zeros(len(rows), length, dtype=torch.int64)
        for span in self.spans:
            wanted[rows[span.category], span.start : span.stop] = 1
        return wanted.to(device)


class PhraseTokenizer:
    """The detector's tokenizer, without its special tokens and without its truncation.

    Args:
        data: the bytes of a `tokenizer.json`.
        where: for messages.
        vocabulary: rows of the text tower's embedding.

    Raises:
        IntegrityError: no tokenizer, or not one that the detector's text tower was trained with.
    """

    def __init__(self, data: bytes, where: str, vocabulary: int) -> None:
        try:
            self._tokenizer = Tokenizer.from_str(data.decode("utf-8"))
        except Exception as error:  # the library raises nothing more special
            raise IntegrityError(f"{where}: tokenizer.json is not readable: {' '.join(str(error).split())}") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        ids = {"[CLS]": CLS, "[SEP]": SEP, ".": STOP, "?": QUESTION}
        for token, wanted in ids.items():
            if self._tokenizer.token_to_id(token) != wanted:
                raise IntegrityError(
                    f"{where}: tokenizer.json gives '{token}' the id {self._tokenizer.token_to_id(token)}, the "
                    f"detector expects {wanted} (bert-base-uncased); take the tokenizer.json of the detector's weights"
                )
        if self._tokenizer.get_vocab_size() > vocabulary:
            raise IntegrityError(
                f"{where}: tokenizer.json knows {self._tokenizer.get_vocab_size()} tokens, the detector's text tower "
                f"{vocabulary}; do they belong together?"
            )

    def ids(self, label: str, phrase: str) -> list[int]:
        """Return the tokens of a phrase.

        Args:
            label: the class that it stands for, for messages.
            phrase: any case.

        Raises:
            ConfigError: it cannot be asked for; the message says why.
        """
        encoded = self._tokenizer.encode(phrase, add_special_tokens=False)
        unknown = self._tokenizer.token_to_id("[UNK]")
        problem = None
        if not encoded.ids:
            problem = "has no token"
        elif unknown in encoded.ids:
            begin, end = encoded.offsets[encoded.ids.index(unknown)]
            problem = f"holds '{phrase[begin:end]}', which the tokenizer does not know"
        elif STOP in encoded.ids or QUESTION in encoded.ids:
            problem = "holds '.' or '?', which separate phrases"
        if problem:
            raise ConfigError(
                f"class '{label}': the phrase '{phrase}' {problem}; ask for it in other words with grounding.phrases"
            )
        return list(encoded.ids)


def make_prompts(
    classes: Sequence[str], phrases: Mapping[str, Sequence[str]], tokenizer: PhraseTokenizer, length: int
) -> list[Prompt]:
    """Ask for all classes, in as few prompts as their order allows.

    Args:
        classes: class names in index order.
        phrases: what to ask for in place of a class's name.
        tokenizer: the detector's.
        length: longest prompt in tokens, delimiters included.

    Raises:
        ConfigError: a phrase that cannot be asked for, or one for two classes; phrases of an unknown class.
    """
    unknown = sorted(set(phrases) - set(classes))
    if unknown:
        raise ConfigError(f"grounding.phrases: no class '{unknown[0]}'; the classes are: {', '.join(classes)}")
    prompts: list[Prompt] = []
    ids, spans = [CLS], list[Span]()
    for category, tokens in _phrase_tokens(classes, phrases, tokenizer, length):
        if len(ids) + len(tokens) + 2 > length:
            prompts.append(Prompt((*ids, SEP), tuple(spans)))
            ids, spans = [CLS], []
        spans.append(Span(category, len(ids), len(ids) + len(tokens)))
        ids += [*tokens, STOP]
    prompts.append(Prompt((*ids, SEP), tuple(spans)))
    return prompts


def _phrase_tokens(
    classes: Sequence[str], phrases: Mapping[str, Sequence[str]], tokenizer: PhraseTokenizer, length: int
) -> Iterator[tuple[int, list[int]]]:
    """Yield class index and tokens of every phrase, each phrase once."""
    owner: dict[tuple[int, ...], str] = {}
    for category, label in enumerate(classes):
        for phrase in phrases.get(label, [label.replace("_", " ")]):
            tokens = tokenizer.ids(label, phrase)
            if len(tokens) + 3 > length:
                raise ConfigError(
                    f"class '{label}': a phrase of {len(tokens)} tokens exceeds the {length - 3} that a prompt can "
                    "hold; ask for it in fewer words with grounding.phrases"
                )
            key = tuple(tokens)
            if (other := owner.get(key, label)) != label:
                raise ConfigError(
                    f"the phrase '{phrase}' would stand for the classes '{other}' and '{label}'; tell them apart with "
                    "grounding.phrases"
                )
            if key not in owner:
                owner[key] = label
                yield category, tokens
