"""Every search over one run of the demo, in both databases: the same answers in the same order, and
those that plain Python finds in the neurons' own pages."""

from __future__ import annotations

import re
import statistics
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain, pairwise
from typing import Any, NamedTuple

import pytest

from app.examples.schemas import Example
from app.neurons.schemas import NeuronPage
from app.search.texts import MOST_RANKED
from indexer.config import IndexConfig
from indexer.run.index import index
from tests.conftest import NewDatabase, Silent, serving
from tests.helpers.both_stores import Both, Place, Store, read_all

API = "/api/v1/models/demo"
CONFIG = IndexConfig(model="demo", max_tokens=40_000, sample=300)
KEPT = 256
"""Contexts of the sample whose peaks a run keeps; the sample is larger, so that this is met."""
ROLES = ("peak", "promoted", "suppressed", "in", "gate")
KINDS = ("top", "bottom", "source", "band")

Token = tuple[Place, float, int | None]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, new_postgres: NewDatabase) -> Iterator[Store]:
    """The demo indexed into SQLite and into PostgreSQL: runs of one content."""
    folder = tmp_path_factory.mktemp("search-demo")
    urls = f"sqlite:///{folder / 'demo.db'}", new_postgres()
    for url in urls:
        index(CONFIG, url, folder / "cache", Silent())
    with ExitStack() as stack:
        both = Both(*(stack.enter_context(serving(url)) for url in urls))
        yield read_all(both, urls[0])


def test_both_databases_hold_one_run(store: Store) -> None:
    """One content hash over all that was measured; and neurons' pages are the same."""
    assert len(store.both.get(API)["run"]["content_hash"]) == 64
    assert len(store.pages) == 1280
    for layer, neuron in ((0, 0), (1, 349), (1, 639)):
        own = store.both.get(f"{API}/layers/{layer}/neurons/{neuron}")
        assert own == store.pages[layer, neuron].model_dump(mode="json")


# --- By token -----------------------------------------------------------------------------------


def by_token(pages: dict[Place, NeuronPage]) -> dict[tuple[int, str], list[Token]]:
    """What each token is to which neurons, in the order promised."""
    found: dict[tuple[int, str], list[Token]] = defaultdict(list)
    for place, page in pages.items():
        peaks: dict[int, list[float]] = defaultdict(list)
        for one in page.examples.top:
            peaks[one.token_ids[one.peak_position - one.start]].append(one.peak)
        for token_id, values in peaks.items():
            found[token_id, "peak"].append((place, statistics.fmean(values), len(values)))
        lists = [("promoted", page.weights.logit_effects.top)]
        lists += [("suppressed", page.weights.logit_effects.bottom)]
        lists += [(one.part, one.top) for one in page.weights.inputs]
        for role, tokens in lists:
            for token in tokens:
                found[token.token_id, role].append((place, token.value, None))
    for (_, role), mine in found.items():
        mine.sort(key=lambda one: (-(one[2] or 0), -one[1] if role == "peak" else -abs(one[1])))
    return found


def test_tokens_find_what_the_pages_say(store: Store) -> None:
    """The three tokens with the most neurons in each role, and some others; by text as by id."""
    expected = by_token(store.pages)
    assert {role for _, role in expected} == {"peak", "promoted", "suppressed", "in"}
    chosen = set(sorted(token_id for token_id, _ in expected)[::150])
    for role in ROLES:
        of_role = [one for one in expected if one[1] == role]
        chosen |= {one[0] for one in sorted(of_role, key=lambda one: -len(expected[one]))[:3]}
    assert len(chosen) > 12
    path = f"{API}/search/token"
    for token_id in sorted(chosen):
        roles = [role for role in ROLES if (token_id, role) in expected]
        first = store.both.get(path, token_id=token_id)
        assert first["roles"] == [
            {"role": role, "neurons": len(expected[token_id, role])} for role in roles
        ]
        assert store.both.get(path, token=first["token"])["token"] == first["token"]
        for role in roles:
            items = store.both.all(path, **{"token_id": token_id, "as": role, "limit": 400})
            wanted = expected[token_id, role]
            assert [(i["layer"], i["neuron"]) for i in items] == [one[0] for one in wanted], role
            assert [i["count"] for i in items] == [one[2] for one in wanted]
            assert [i["value"] for i in items] == pytest.approx([one[1] for one in wanted])


def test_a_token_s_neurons_are_described_as_on_their_pages(store: Store) -> None:
    """Maximum, density, the tokens they peak on and promote."""
    for item in store.both.get(f"{API}/search/token", token=" the")["items"]:
        page = store.pages[item["layer"], item["neuron"]]
        top = page.examples.top[0]
        assert item["max"] == page.stats.max
        assert item["density"] == page.stats.density
        assert item["dead"] == page.stats.dead
        assert item["peak_token"] == top.tokens[top.peak_position - top.start]
        assert item["promoted_token"] == page.weights.logit_effects.top[0].token


@pytest.mark.parametrize("prefix", ["th", " ", "Z", "\n", "\\x", "no such"])
def test_completions_are_the_tokens_that_begin_so(store: Store, prefix: str) -> None:
    """With or without a space before; the exact ones first, then by id."""
    texts = [one.decode("utf-8", "backslashreplace") for one in store.vocabulary]
    begins = prefix, f" {prefix}"
    wanted = [i for begin in begins for i, one in enumerate(texts) if one == begin]
    wanted += [i for i, one in enumerate(texts) if one.startswith(begins) and i not in wanted]
    found = store.both.get(f"{API}/tokens", prefix=prefix, limit=1000)["items"]
    assert [(one["token_id"], one["token"]) for one in found] == [
        (i, texts[i]) for i in wanted[:1000]
    ]


# --- By text ------------------------------------------------------------------------------------


def oracle_words(some: str) -> list[str]:
    """As the README has it: letters and digits, capitals as small, accents as they are; of what is
    written without spaces, each character. Enough for the demo's texts, which have no more."""
    folded = unicodedata.normalize("NFKC", some).lower()
    return [one[:64] for one in re.findall(r"[\u3040-\u30ff\u4e00-\u9fff]|[^\W_]+", folded)]


@pytest.fixture(scope="module")
def contexts(store: Store) -> dict[int, Any]:
    """All contexts that are kept, each with all its neurons."""
    return {
        context_id: store.both.get(f"{API}/contexts/{context_id}", limit=1000)
        for context_id in store.context_ids
    }


def test_texts_are_found_by_what_is_in_them(store: Store, contexts: dict[int, Any]) -> None:
    """Words, several words, phrases and beginnings, frequent and rare: every context, once."""
    words = {}
    for context_id, page in contexts.items():
        pieces = [store.vocabulary[one] for one in page["token_ids"][page["included_from"] :]]
        some = b"".join(pieces).decode("utf-8", "replace")
        assert page["text"] == some
        words[context_id] = oracle_words(some)
    lines = {one: f" {' '.join(some)} " for one, some in words.items()}
    often = [word for word, _ in Counter(chain(*words.values())).most_common()]
    rare, chosen = often[-8:], often[:8] + often[100:104]
    foreign = [word for word in often if not word.isascii()][:4]
    pairs = [f"{a} {b}" for some in words.values() for a, b in list(pairwise(some))[3:4]][::20]
    asked: dict[str, list[str]] = {}  # by query, what a line of words must have
    for word in (*chosen, *rare, *foreign):
        asked[word.upper() if word.isascii() else word] = [f" {word} "]
        asked[f"{word[:2]}*"] = [f" {word[:2]}"]
    for pair in pairs:
        a, b = pair.split()
        asked[f'"{pair}"'] = [f" {pair} "]
        asked[f"{b} {a}"] = [f" {a} ", f" {b} "]
        asked[f'"{pair[:-1]}"*'] = [f" {pair[:-1].rstrip()}"]
    asked["The_OF"] = [" the of "]
    asked['"import os" def'] = [" import os ", " def "]
    assert len(asked) > 50
    for q, needed in asked.items():
        wanted = [one for one in lines if all(some in lines[one] for some in needed)]
        items = store.both.all(f"{API}/search/text", q=q, limit=100)
        found = [one["context_id"] for one in items]
        assert sorted(found[:MOST_RANKED]) == wanted[:MOST_RANKED], q
        assert found[MOST_RANKED:] == wanted[MOST_RANKED:], "the rest in corpus order"


# --- By context ---------------------------------------------------------------------------------


class Named(NamedTuple):
    """A neuron of a context."""

    kind: str
    place: Place
    position: int
    value: float


def by_context(pages: dict[Place, NeuronPage]) -> dict[int, list[Named]]:
    """The neurons of whose examples a context is one: each peak once, of the first of its kinds."""
    found: dict[int, list[Named]] = defaultdict(list)
    for place, page in pages.items():
        peaks: dict[int, Named] = {}
        lists: list[tuple[str, list[Example]]] = [("top", page.examples.top)]
        lists += [("source", group.examples) for group in page.examples.sources]
        lists += [("band", group.examples) for group in page.examples.bands]
        for kind, examples in lists:
            for one in examples:
                named = Named(kind, place, one.peak_position, one.peak)
                peaks.setdefault(one.context_id, named)
        for context_id, named in peaks.items():
            found[context_id].append(named)
        for one in page.examples.bottom:
            named = Named("bottom", place, one.trough_position, one.trough)
            found[one.context_id].append(named)
    for mine in found.values():
        mine.sort(key=lambda one: (KINDS.index(one.kind), one.place))
    return found


def test_contexts_name_their_neurons(store: Store, contexts: dict[int, Any]) -> None:
    """All contexts, all neurons; of a position those alone; as many as are counted."""
    expected = by_context(store.pages)
    random = {one.context_id for one in store.pages[0, 0].examples.random}
    assert sorted(expected.keys() | random) == store.context_ids
    for context_id, page in contexts.items():
        path, wanted = f"{API}/contexts/{context_id}", expected[context_id]
        assert [_named(item) for item in page["items"]] == wanted[:1000]
        if context_id % 20:
            continue
        items = store.both.all(path, limit=200)
        assert [_named(item) for item in items] == wanted
        assert page["random"] == (context_id in random)
        for name, kinds in (("top", {"top"}), ("bottom", {"bottom"}), ("others", set(KINDS[2:]))):
            counted = [0] * len(page["tokens"])
            for one in wanted:
                counted[one.position] += one.kind in kinds
            assert page[name] == counted
        for position in sorted({one.position for one in wanted})[::7]:
            mine = store.both.all(path, at=position, limit=3)
            assert [_named(item) for item in mine] == [
                one for one in wanted if one.position == position
            ]


def _named(item: Any) -> Named:
    place = item["layer"], item["neuron"]
    return Named(item["kind"], place, item["position"], item["value"])


# --- By number ----------------------------------------------------------------------------------


def facts(page: NeuronPage) -> dict[str, Any]:
    """A neuron's numbers, as its own page has them; its source is that of most top examples."""
    stats, weights = page.stats, page.weights
    sources = [one.source for one in page.examples.top]
    most = max(set(sources), key=sources.count) if sources else None
    return {
        **{name: getattr(stats, name) for name in ("max", "min", "mean", "std", "skewness")},
        **{name: getattr(stats, name) for name in ("kurtosis", "density", "density_over_tenth")},
        "dead": stats.dead,
        "layer": page.layer,
        "effect_kurtosis": weights.logit_effects.kurtosis,
        "in_out_cosine": next(one.cosine for one in weights.inputs if one.part == "in"),
        "source": most if 2 * sources.count(most) > len(sources) else None,
    }


Condition = Callable[[dict[str, Any]], bool]
NUMBERS: list[tuple[str, Condition, str, bool]] = [
    ("", lambda n: True, "max", True),
    ("max>4", lambda n: n["max"] > 4, "max", True),
    ("max<=3", lambda n: n["max"] <= 3, "max", False),
    ("density<5%", lambda n: n["density"] < 0.05, "density", False),
    ("dead:yes sort:neuron", lambda n: n["dead"], "layer", False),
    ("dead:no sort:-kurtosis", lambda n: not n["dead"], "kurtosis", True),
    ("layer:1 sort:skewness", lambda n: n["layer"] == 1, "skewness", False),
    ("layer:0 density_over_tenth>=0.2", lambda n: n["layer"] == 0
     and n["density_over_tenth"] >= 0.2, "density_over_tenth", True),
    ("source:bible sort:-mean", lambda n: n["source"] == "bible", "mean", True),
    ("source:python dead:no layer:0-1 std>0.2", lambda n: n["source"] == "python"
     and not n["dead"] and n["std"] > 0.2, "std", True),
    ("effect_kurtosis>1 min>-0.17", lambda n: n["effect_kurtosis"] > 1 and n["min"] > -0.17,
     "effect_kurtosis", True),
    ("in_out_cosine<-0.1", lambda n: n["in_out_cosine"] < -0.1, "in_out_cosine", False),
]  # fmt: skip


@pytest.mark.parametrize(("q", "fits", "by", "falling"), NUMBERS, ids=[one[0] for one in NUMBERS])
def test_numbers_find_what_the_pages_say(
    store: Store, q: str, fits: Condition, by: str, falling: bool
) -> None:
    """Conditions, sources, layers, dead neurons and orders; ties by layer and neuron."""
    known = {place: facts(page) for place, page in store.pages.items()}
    asked = [name for name in next(iter(known.values())) if re.search(rf"\b{name}\b", q)]
    wanted = [
        place
        for place, one in known.items()
        if all(one[name] is not None for name in asked if name != "source")
        and one[by] is not None
        and fits(one)
    ]
    wanted.sort(key=lambda place: -known[place][by] if falling else known[place][by])
    items = store.both.all(f"{API}/neurons", q=q, limit=500)
    assert wanted, "it is met"
    assert [(one["layer"], one["neuron"]) for one in items] == wanted
    assert store.both.get(f"{API}/neurons", q=q)["total"] == len(wanted)


# --- Two neurons --------------------------------------------------------------------------------


def test_kept_peaks_are_those_of_the_sample(store: Store) -> None:
    """In its order: the random examples, whose peaks are exact, begin its second half."""
    half = CONFIG.sample // 2
    for place, page in list(store.pages.items())[::64]:
        exact = [one.peak for one in page.examples.random]
        kept = store.peaks[place]
        assert len(kept) == KEPT
        rounded = max(2**-9 * max(map(abs, exact)), 1e-6)
        assert kept[half : half + len(exact)] == pytest.approx(exact, abs=rounded)


def test_two_neurons_have_in_common_what_their_pages_have(store: Store) -> None:
    """The top examples of both with their ranks, and Pearson's correlation of their kept peaks."""
    places = [(0, 3), (1, 10), (1, 11), (1, 349), (0, 639)]
    pairs = [(a, b) for a in places for b in places]
    beside = store.pages[1, 349].together[0]
    pairs.append(((1, 349), (beside.layer, beside.neuron)))
    shared = 0
    for a, b in pairs:
        named = [f"demo/{layer}/{neuron}" for layer, neuron in (a, b)]
        page = store.both.get("/api/v1/compare", a=named[0], b=named[1])
        ranks = [
            {one.context_id: one.rank for one in store.pages[place].examples.top}
            for place in (a, b)
        ]
        wanted = [(one, ranks[0][one], ranks[1][one]) for one in ranks[0] if one in ranks[1]]
        found = [(one["context_id_a"], one["rank_a"], one["rank_b"]) for one in page["shared"]]
        assert found == wanted
        shared += a != b and len(wanted)
        correlation = page["correlation"]
        assert (correlation["a"], correlation["b"]) == (store.peaks[a], store.peaks[b])
        assert correlation["contexts"] == KEPT
        pearson = statistics.correlation(store.peaks[a], store.peaks[b])
        assert correlation["value"] == pytest.approx(pearson, abs=1e-9)
    assert shared, "some have a top example in common"
