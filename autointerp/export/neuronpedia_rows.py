"""The rows of Neuronpedia's import files, checked as its database checks them.

A file's lines all have the same keys. A latent's key there is the model's id, the layer with the
set's name (``1-my-saes``) and the index as a text. Dates are ISO 8601, ids have 25 characters.
"""

# ruff: noqa: N815 - the names are those of the files

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from autointerp.export.rows import well_formed

ModelId = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,128}$")]
SetName = Annotated[str, Field(pattern=r"^[a-z0-9_.-]+$")]
SourceId = Annotated[str, Field(pattern=r"^[0-9]+-[a-z0-9_.-]+$")]
Index = Annotated[str, Field(pattern=r"^[0-9]+$")]
Cuid = Annotated[str, Field(pattern=r"^c[a-z0-9]{24}$")]
UserId = Annotated[str, Field(pattern=r"^c[a-z0-9]{20,30}$")]
Moment = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00$")]
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]  # pydantic itself refuses lone surrogates
Number = Annotated[float, Field(allow_inf_nan=False)]

_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


class Row(BaseModel):
    """Base of every row: frozen, and its keys are exactly those of its class."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Release(Row):
    name: SetName
    visibility: Literal["PRIVATE", "UNLISTED", "PUBLIC"] = "UNLISTED"
    description: Text
    descriptionShort: Text
    urls: list[Text] = []
    creatorName: Text
    creatorId: UserId
    createdAt: Moment


class Model(Row):
    id: ModelId
    displayName: Text
    displayNameShort: Text
    creatorId: UserId
    visibility: Literal["PRIVATE", "UNLISTED", "PUBLIC"] = "UNLISTED"
    layers: int = Field(ge=0)
    neuronsPerLayer: int = Field(ge=0)
    owner: Text
    createdAt: Moment
    updatedAt: Moment


class SourceSet(Row):
    modelId: ModelId
    name: SetName
    description: Text
    type: Text = ""
    creatorName: Text
    creatorId: UserId
    visibility: Literal["PRIVATE", "UNLISTED", "PUBLIC"] = "UNLISTED"
    urls: list[Text] = []
    hasDashboards: bool = True
    releaseName: SetName
    createdAt: Moment


class Source(Row):
    id: SourceId
    modelId: ModelId
    setName: SetName
    creatorId: UserId
    visibility: Literal["PRIVATE", "UNLISTED", "PUBLIC"] = "UNLISTED"
    hasDashboards: bool = True
    dataset: Text
    notes: Text
    createdAt: Moment


class Latent(Row):
    """What stands in every row about a latent."""

    modelId: ModelId
    layer: SourceId
    index: Index


class Feature(Latent):
    """A latent; the histogram is of its activations in a uniform sample of windows."""

    sourceSetName: SetName
    creatorId: UserId
    createdAt: Moment
    hookName: Text
    maxActApprox: Number = Field(ge=0)
    frac_nonzero: Number = Field(ge=0, le=1)
    freq_hist_data_bar_heights: list[Number]
    freq_hist_data_bar_values: list[Number]
    pos_str: list[Text] = []
    pos_values: list[Number] = []
    neg_str: list[Text] = []
    neg_values: list[Number] = []
    hasVector: Literal[False] = False

    @model_validator(mode="after")
    def _one_value_each(self) -> Self:
        heights, values = self.freq_hist_data_bar_heights, self.freq_hist_data_bar_values
        if len(heights) != len(values):
            raise ValueError("a histogram has as many heights as values")
        return self


class Activation(Latent):
    """A window of text; bins are of the interval of maxima that it was sampled from, if it was."""

    id: Cuid
    tokens: list[Text] = Field(min_length=1)
    values: list[Number]
    maxValue: Number
    maxValueTokenIndex: int = Field(ge=0)
    minValue: Number
    creatorId: UserId
    createdAt: Moment
    dataSource: Text
    binMin: Number | None
    binMax: Number | None
    binContains: Number | None

    @model_validator(mode="after")
    def _values_are_of_the_tokens(self) -> Self:
        if len(self.values) != len(self.tokens):
            raise ValueError("a window has a value for every token")
        if self.maxValue != max(self.values) or self.minValue != min(self.values):
            raise ValueError("the extremes are not those of the values")
        if self.maxValueTokenIndex != self.values.index(self.maxValue):
            raise ValueError("the peak is not where the maximum is first")
        return self


class Explanation(Latent):
    id: Cuid
    description: Text = Field(min_length=1)
    authorId: UserId
    triggeredByUserId: None = None
    typeName: Text | None
    explanationModelName: Text | None
    notes: Text
    createdAt: Moment
    updatedAt: Moment


class ScoreRow(Latent):
    """A score: Neuronpedia imports none, so that this file is for whoever has use for it."""

    explanationId: Cuid
    scorer: Text
    scoreType: Text | None
    judge: Text
    metric: Text
    value: Number
    low: Number | None
    high: Number | None
    n: int = Field(ge=0)


def cuid(*parts: object) -> str:
    """An id as the database makes them, that is always the same of the same parts."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=16).digest()
    number, signs = int.from_bytes(digest, "big"), []
    for _ in range(24):
        number, place = divmod(number, 36)
        signs.append(_BASE36[place])
    return "c" + "".join(signs)


def plain(text: str) -> str:
    """The text as PostgreSQL can hold it: NUL is a blank, a lone surrogate U+FFFD."""
    if text.isascii():
        return text.replace("\x00", " ")
    return well_formed(text).replace("\x00", " ")
