"""Executable explanations: a small English grammar, its text, and its evaluation on tokens.

A pattern *is* its text: ``parse(str(pattern)) == pattern``. It says on which tokens a latent
fires, as clauses joined by ``; or``::

    "for", "␣in" after identifiers unless after "async"; or newlines somewhere after "def"

Quoted tokens are exact token texts with JSON's escapes; ``␣`` stands for a space, so that a
token is always one word.
"""

from autointerp.patterns.grammar import (
    AFFIXES,
    BLANK_CLASSES,
    CLASSES,
    MAX_WORDS,
    NOTHING,
    NOTHING_TEXT,
    PLACE_KINDS,
    SEPARATOR,
    SET_KINDS,
    Affix,
    Atom,
    Class,
    Clause,
    Condition,
    Kind,
    Pattern,
    Token,
)
from autointerp.patterns.matching import Lexicon, Mask, Windows, matches
from autointerp.patterns.parsing import parse

__all__ = [
    "AFFIXES",
    "BLANK_CLASSES",
    "CLASSES",
    "MAX_WORDS",
    "NOTHING",
    "NOTHING_TEXT",
    "PLACE_KINDS",
    "SEPARATOR",
    "SET_KINDS",
    "Affix",
    "Atom",
    "Class",
    "Clause",
    "Condition",
    "Kind",
    "Lexicon",
    "Mask",
    "Pattern",
    "Token",
    "Windows",
    "matches",
    "parse",
]
