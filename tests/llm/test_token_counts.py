"""Counts of tokens that nobody has counted yet, and the prefix cache that is simulated."""

from __future__ import annotations

from tokenizers import Tokenizer

from autointerp.llm.token_counts import BLOCK, OPENAI_LEAST, OPENAI_STEP, Counter, PrefixCache
from autointerp.sections import DEMO, LLMSection


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text} for text in texts]


def test_a_local_model_counts_with_its_own_tokenizer() -> None:
    counter = Counter(LLMSection(model=str(DEMO)))
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    text = "for i in range(10):\n    print(i)\n" * 20
    assert counter.exact
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert counter.prompt(turns(text, text)) == 2 * (len(ids) + 4)


def test_without_one_characters_are_counted() -> None:
    counter = Counter(LLMSection(model="nobody/has this one"))
    assert not counter.exact
    assert 250 <= counter.prompt(turns("word " * 200)) <= 270
    assert counter.text("four") == 2


def test_a_shared_beginning_is_held_and_the_rest_is_not() -> None:
    cache = PrefixCache(LLMSection(model="m", base_url="http://127.0.0.1:1/v1"))
    head = "few-shot examples " * 100
    assert cache.cached(turns(head + "first question"), 450) == 0
    second = turns(head + "another question")
    held = cache.cached(second, 450)
    assert 450 * (len(head) - BLOCK) / (len(head) + 22) <= held <= 450 * len(head) / len(head)
    assert cache.cached(second, 450) >= held
    assert cache.cached(turns("x" + head), 450) == 0


def test_openai_caches_long_prompts_in_steps() -> None:
    cache = PrefixCache(LLMSection(model="gpt-5-mini"))
    short, long = turns("a" * 3000), turns("b" * 8000)
    for asked in (short, long):
        assert cache.cached(asked, 0) == 0
    assert cache.cached(short, OPENAI_LEAST - 1) == 0
    held = cache.cached(long, 2000)
    assert held > 1800
    assert held % OPENAI_STEP == 0
