"""The file that the viewer searches: ``view.sqlite``, made anew whenever the results change.

A row of ``latents`` is one latent with the explanation that is shown of it; ``headlines`` has its
scores. Every order that latents are listed in has a table of places (``order_0`` …) and a
full-text index (``words_0`` …) whose row ids are those places: a search then comes out in order,
however many latents match, and stops at the end of the page.
"""

from __future__ import annotations

FORMAT = 2  # of the file; another one is made anew
COLUMNS = "{shown effect}"  # of the full-text indices, that have words of explanations
FACETS = "facets"

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE coders (number INTEGER PRIMARY KEY, name TEXT NOT NULL, hook TEXT, latents INTEGER);
CREATE TABLE statuses (number INTEGER PRIMARY KEY, name TEXT NOT NULL, latents INTEGER);
CREATE TABLE scorers (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, metric TEXT NOT NULL,
    chance REAL NOT NULL);
CREATE TABLE orders (
    number INTEGER PRIMARY KEY, value TEXT NOT NULL, name TEXT NOT NULL, scorer INTEGER);
CREATE TABLE latents (
    id INTEGER PRIMARY KEY, coder INTEGER NOT NULL, latent INTEGER NOT NULL,
    status INTEGER NOT NULL, explainer TEXT NOT NULL, shown TEXT NOT NULL, effect TEXT NOT NULL,
    reason TEXT, confidence REAL, density REAL, maximum REAL);
CREATE TABLE headlines (
    scorer INTEGER, id INTEGER, value REAL NOT NULL, low REAL, high REAL,
    PRIMARY KEY (scorer, id)) WITHOUT ROWID;
CREATE TABLE vocabulary (word TEXT PRIMARY KEY, latents INTEGER NOT NULL) WITHOUT ROWID;
CREATE TEMP TABLE facets (id INTEGER PRIMARY KEY, facets TEXT NOT NULL);
"""

PLACES = "CREATE TABLE order_{n} (place INTEGER PRIMARY KEY, id INTEGER NOT NULL)"
WORDS = (
    "CREATE VIRTUAL TABLE words_{n} USING fts5(shown, effect, facets, content='',"
    " columnsize=0, prefix='1 2 3', tokenize='unicode61 remove_diacritics 2')"
)
FILL_WORDS = (
    "INSERT INTO words_{n} (rowid, shown, effect, facets)"
    " SELECT o.place, l.shown, l.effect, f.facets FROM order_{n} o"
    " JOIN latents l ON l.id = o.id JOIN temp.facets f ON f.id = o.id ORDER BY o.place"
)
