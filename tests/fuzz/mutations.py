"""Texts and bytes mutated at random."""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["JSON", "damaged", "mutated"]

ODD = [*"?.0'\";\0\ufeffé½", "", "-1", "1e999", "nan", "inf", "99999999999999999999"]
KINDS = ["word", "word", "word", "drop", "double", "swap", "insert", "cut", "letters"]

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn, texts: list[str], words: list[str]) -> str:
    """One of the texts with lines and words left out, doubled, swapped and replaced."""
    lines = draw(st.sampled_from(texts)).splitlines()
    word = st.sampled_from([*words, *ODD])
    for _ in range(draw(st.integers(1, 5))):
        k = draw(st.integers(0, max(len(lines) - 1, 0)))
        kind = draw(st.sampled_from(KINDS))
        if not lines or kind == "insert":
            lines.insert(k, draw(word))
        elif kind == "word":
            parts = lines[k].split(" ")
            parts[draw(st.integers(0, len(parts) - 1))] = draw(word)
            lines[k] = " ".join(parts)
        elif kind == "drop":
            del lines[k]
        elif kind == "double":
            lines.insert(k, lines[k])
        elif kind == "swap":
            j = draw(st.integers(0, len(lines) - 1))
            lines[k], lines[j] = lines[j], lines[k]
        elif kind == "cut":
            lines[k] = lines[k][: draw(st.integers(0, len(lines[k])))]
            del lines[k + 1 + draw(st.integers(0, 40)) :]
        else:
            lines[k] += draw(st.text(max_size=6))
    return "\n".join(lines) + draw(st.sampled_from(["\n", "", "\n\n"]))


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content cut, or with some bytes changed."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(0, 6))):
        changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    return bytes(changed[: draw(st.integers(0, len(changed)))] if draw(st.booleans()) else changed)
