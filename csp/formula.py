"""Chemical formulas as people write them, read as whole numbers of atoms or refused in one sentence.

formula    = part {separator part}       separator: · • * × or a space; a dot where it is no decimal point
part       = [multiplier] group {group}  CaSO4·2H2O, 3CaO·Al2O3
group      = element | "(" formula ")", with [ ] and { } as well, and an amount after it
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import islice

from csp.errors import InputError

__all__ = ["Formula", "electronegativity_key", "in_order", "plain", "read_formula", "reduced_formula"]

LONGEST = 200  # characters
LONGEST_CASED = 24  # of those whose capitals are guessed
LARGEST_MULTIPLE = 100  # that makes amounts whole
HEAVIEST = 94  # plutonium: what is heavier is hardly meant by NO
CLOSING = {"(": ")", "[": "]", "{": "}"}
SEPARATOR = "·"
SEPARATORS = re.compile(r"[·•⋅∙・●*∗×‧⸱∘˙]")
NUMBER = r"\d+(?:\.\d+)?(?:/\d+)?"
SOLVATES = r"H2O|D2O|T2O|H2O2|NH3|ND3|N2H4|HF|HCl|HBr|HNO3|H2SO4|CO2|SO2|CH3OH|C2H5OH|CH3CN|C6H6"
SOLVATE = rf"(?:{SOLVATES}|\((?:{SOLVATES})\)|\[(?:{SOLVATES})\])(?=$|[.\s)\]}}{SEPARATOR}])"
OXIDATION = re.compile(r"\((?:I{1,3}|I?V|VI{0,3})\)")
SUPERSCRIPT = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]")
CHARGE = re.compile(r"[+\-−–^]\d*$|\d*[+\-−–]$|\d[+\-−–]")
UNKNOWN = re.compile(r"\d?[+\-−–±] ?[nxyzδ]|(?<=[.·])[nx](?= ?[A-Z(\[])")
PHASE = re.compile(r" ?\([a-z]+\)$")  # NaCl(s)
WATER = re.compile(r"(?<=[HDT]2)0(?![\d.])")  # with a zero for its O
SMALL = re.compile(r"(?<!\d)0\.\d")  # a number that can only be an amount
HYDROGEN = frozenset("DT")
Amounts = dict[str, Fraction]


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula that was read.

    Attributes:
        counts: Element symbol → atoms in one formula unit; coprime.
        change: What was made of the formula, one sentence; "" where it says the same as it is written.
    """

    counts: Mapping[str, int]
    change: str = ""

    def __str__(self) -> str:
        return in_order(self.counts)


def read_formula(text: str) -> Formula:
    """Read a formula such as `SrTiO3`, `Ba(FeAs)2` or `CaSO4·2H2O`.

    Raises:
        InputError: In one sentence, for what is not a formula, with what was probably meant; for fractional
            amounts that no multiple up to 100 makes whole.
    """
    try:
        parts, amounts = _read(text)
    except _NoFormulaError as error:
        meant = " or ".join(_meant(text, error.of))
        hint = f"; did you mean {meant}?" if meant else "; write one such as SrTiO3 or Ba(FeAs)2."
        raise InputError(f"{_shown(text)} is not a chemical formula: {error}{hint}") from None
    of_elements = _without_isotopes(amounts)
    factor = _whole(of_elements)
    if factor is None:
        raise InputError(
            f"The amounts in {_shown(text)} cannot be made whole numbers; write an ordered formula."
        )
    counts = {symbol: round(amount * factor) for symbol, amount in of_elements.items()}
    changed = _change(text, parts, amounts, factor)
    return Formula(counts, changed and f"{_shown(text)} is read as {in_order(counts)}: {changed}.")


def plain(text: str) -> str:
    """The formula with subscripts as digits, separators alike, single spaces and nothing invisible."""
    if not isinstance(text, str) or SUPERSCRIPT.search(text):
        return text
    text = re.sub(r"(\d*)([¼-¾⅐-⅞])", lambda found: _mixed(found[1], found[2]), text)  # 1½ is 3/2
    text = unicodedata.normalize("NFKC", SEPARATORS.sub(SEPARATOR, text))
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cc") or c.isspace())
    text = " ".join(SEPARATORS.sub(SEPARATOR, text).split())
    return re.sub(r" ?· ?| x ", SEPARATOR, text)


def _mixed(whole: str, part: str) -> str:
    amount = int(whole or 0) + Fraction(unicodedata.numeric(part)).limit_denominator(10)
    return f"{amount.numerator}/{amount.denominator}"


def in_order(counts: Mapping[str, int]) -> str:
    """A formula of these amounts: elements by electronegativity, an amount of one not written."""
    ordered = sorted(counts, key=electronegativity_key)
    return "".join(f"{symbol}{counts[symbol] if counts[symbol] > 1 else ''}" for symbol in ordered)


def reduced_formula(numbers: Iterable[int]) -> str:
    """The formula of a cell with these atomic numbers, as `in_order`, amounts coprime."""
    from ase.data import chemical_symbols

    amounts = Counter(numbers)
    divisor = math.gcd(*amounts.values())
    return in_order({chemical_symbols[z]: n // divisor for z, n in amounts.items()})


@cache
def electronegativity_key(symbol: str) -> tuple[float, str]:
    """Sorts element symbols as formulas list them: by electronegativity (Pauling), unknown ones last."""
    from pymatgen.core import Element

    chi = Element(symbol).data.get("X")
    return (float(chi) if isinstance(chi, (int, float)) else 99.0, symbol)


# -- reading ------------------------------------------------------------------------------------------


class _NoFormulaError(Exception):
    """Why a text is no formula, a clause.

    Attributes:
        of: The text after `plain`, in which what was meant is looked for.
    """

    of = ""


def _read(text: str) -> tuple[list[str], dict[str, Fraction]]:
    """The parts between separators, and the amount of each symbol, isotopes of hydrogen by theirs."""
    if not text.strip():
        raise InputError("The formula is empty; write one such as SrTiO3.")
    if len(text) > LONGEST:
        raise InputError(f"The formula has {len(text)} characters; at most {LONGEST} are possible.")
    normal = plain(text)
    try:
        if unknown := UNKNOWN.search(normal):
            raise _NoFormulaError(f"{unknown[0]} is no amount")
        if SUPERSCRIPT.search(normal) or CHARGE.search(normal):
            raise _NoFormulaError("a crystal has no charge, so leave charges out")
        if found := OXIDATION.search(normal):
            raise _NoFormulaError(f"{found[0]} would be iodine or vanadium, so leave oxidation numbers out")
        separated = _with_separators(normal)
        return separated.split(SEPARATOR), _sum(deque(_tokens(separated)), "")
    except _NoFormulaError as error:
        error.of = normal
        raise


def _with_separators(text: str) -> str:
    """All that separates parts as `·`: a dot that remains is a decimal point.

    In CaSO4.2H2O a water follows the dot; in Al2O3.2SiO2 an element would stand on both sides of a decimal
    point, which in La1.85Sr0.15CuO4 and Fe2.5O4 none does.
    """
    text = re.sub(r" \. ?|\. ", SEPARATOR, text)
    text = re.sub(
        rf"(?P<multiplier>(?:^|[{SEPARATOR} (\[{{])\d+\.\d+)|\.(?P<solvate>(?:{NUMBER} ?)?{SOLVATE})",
        lambda found: found["multiplier"] or SEPARATOR + found["solvate"],
        text,
    )
    if re.search(rf"[.{SEPARATOR} ](?:{NUMBER})? ?[HDT]20(?![\d.])", text):
        raise _NoFormulaError("the O of its water is a zero")
    if bare := re.search(r"(?<=[A-Za-z])\.\d+[A-Z][a-z]?(?!\w)", text):
        raise _NoFormulaError(f"{bare[0]} has no digit before its point")
    text = re.sub(r"\.(?=[A-Z(\[{])|(?<=[A-Za-z)\]}])\.(?=\d)", SEPARATOR, text)
    if not SMALL.search(text):
        text = re.sub(r"([A-Za-z)\]}]\d+)\.(?=\d+[A-Z])", lambda found: found[1] + _dot(found), text)
    return _without_spaces(text)


def _dot(found: re.Match[str]) -> str:
    sides = found.string[: found.end()], found.string[found.end() :]
    left, right = (set(re.findall(r"[A-Z][a-z]?", side)) for side in sides)
    return SEPARATOR if left & right else "."


def _without_spaces(text: str) -> str:
    """A space separates as well, but for `Fe 2 O 3`."""
    text = re.sub(r"(?<=[(\[{]) | (?=[)\]}])", "", text)
    text = re.sub(rf"((?:^|[{SEPARATOR}(\[{{]){NUMBER}) (?=[A-Z(\[{{])", r"\1", text)  # 2 H2O
    chunks = text.split(" ")
    numbers = {chunk for chunk in chunks if re.fullmatch(NUMBER, chunk)}
    if not numbers:
        return SEPARATOR.join(chunks)
    if all(chunk in numbers or re.fullmatch(r"[A-Z][a-z]?", chunk) for chunk in chunks):
        return "".join(chunks)
    raise _NoFormulaError("a number stands alone, so join it to what it counts")


def _tokens(text: str) -> Iterator[str]:
    """Element symbols, numbers, brackets and separators."""
    place = 0
    for found in re.finditer(rf"[A-Z][a-z]?|{NUMBER}|[()\[\]{{}}{SEPARATOR}]", text):
        if found.start() != place:
            break
        place = found.end()
        yield found[0]
    if place != len(text):
        raise _NoFormulaError(f"{text[place]!r} has no place in it")


def _sum(tokens: deque[str], closing: str) -> dict[str, Fraction]:
    """The amounts of what stands before the closing bracket."""
    total, part, group = Amounts(), Amounts(), Amounts()
    times = Fraction(1)
    while True:
        token = tokens.popleft() if tokens else ""
        if token in {*CLOSING.values(), SEPARATOR, ""}:
            _add(part, group)
            if not part:
                raise _NoFormulaError("nothing is in a bracket or beside a separator")
            _add(total, part, times)
            if token == closing:
                return total
            if token != SEPARATOR:
                raise _NoFormulaError("it has a bracket that is not closed, or not opened")
            part, group, times = Amounts(), Amounts(), Fraction(1)
        elif not token[0].isdigit():
            _add(part, group)
            group = _sum(tokens, CLOSING[token]) if token in CLOSING else {_element(token): Fraction(1)}
        elif group:
            _add(part, group, _number(token))
            group = Amounts()
        elif part or times != 1:
            raise _NoFormulaError(f"nothing stands before the number {token}")
        else:
            times = _number(token)


def _add(to: dict[str, Fraction], amounts: Mapping[str, Fraction], times: Fraction = Fraction(1)) -> None:
    for symbol, amount in amounts.items():
        to[symbol] = to.get(symbol, Fraction(0)) + times * amount


def _number(token: str) -> Fraction:
    over, _, under = token.partition("/")
    if re.match(r"0\d", over) or not Fraction(over) or (under and not int(under)):
        raise _NoFormulaError(f"{token} is no amount")
    return Fraction(over) / int(under or 1)


def _element(symbol: str) -> str:
    if symbol not in _elements() and symbol not in HYDROGEN:
        raise _NoFormulaError(f"there is no element {symbol}")
    return symbol


@cache
def _elements() -> frozenset[str]:
    from pymatgen.core import Element

    return frozenset(element.symbol for element in Element) - HYDROGEN


@cache
def _lighter_elements() -> frozenset[str]:
    from pymatgen.core import Element

    return frozenset(symbol for symbol in _elements() if Element(symbol).Z <= HEAVIEST)


# -- whole numbers, and what is said of them ----------------------------------------------------------


def _without_isotopes(amounts: Mapping[str, Fraction]) -> dict[str, Fraction]:
    merged = Amounts()
    for symbol, amount in amounts.items():
        _add(merged, {"H" if symbol in HYDROGEN else symbol: amount})
    return merged


def _whole(amounts: Mapping[str, Fraction]) -> Fraction | None:
    """What makes the amounts coprime whole numbers."""
    for multiple in range(1, LARGEST_MULTIPLE + 1):
        scaled = [amount * multiple for amount in amounts.values()]
        if all(abs(x - round(x)) < 1e-6 and round(x) > 0 for x in scaled):
            return Fraction(multiple, math.gcd(*map(round, scaled)))
    return None


def _change(text: str, parts: list[str], amounts: Mapping[str, Fraction], factor: Fraction) -> str:
    """What was done to the amounts as written, in one clause; "" for nothing."""
    reasons = []
    if len(parts) > 1 and ("." in text or any(part[0].isdigit() for part in parts)):
        reasons.append(f"it is taken for {' · '.join(parts)}")
    if any(amount.denominator > 1 for amount in amounts.values()):
        reasons.append(f"its amounts are made whole by the factor {factor}")
        if len(parts) == 1 and re.search(r"\D[1-9]\.\d+[A-Z]", text) and not SMALL.search(text):
            reasons.append(f"an adduct has {SEPARATOR} in place of the dot")
    elif factor != 1:
        reasons.append(f"it holds {1 / factor} of these formula units")
        if "O" not in amounts:
            reasons += [f"with the letter O it would be {meant}" for meant in _with_letter_o(plain(text))]
    reasons += [f"{symbol} is hydrogen" for symbol in HYDROGEN if symbol in amounts]
    reasons += [f"in other capitals it would be {meant}" for meant in _with_small_letters(text)]
    return ", ".join(reasons)


def _shown(text: str) -> str:
    return repr(text if len(text) <= LONGEST // 2 else f"{text[: LONGEST // 2]}…")


# -- what was meant -----------------------------------------------------------------------------------


def _meant(text: str, normal: str) -> list[str]:
    """Formulas that what is not one may stand for; none where nothing is likely."""
    if UNKNOWN.search(normal):
        return []
    for certain in (WATER.sub("O", re.sub(r"\.(?=\d*[HDT]20)", SEPARATOR, normal)), PHASE.sub("", normal)):
        if certain != normal and _is_formula(certain):
            return [certain]
    tries = [
        *_with_letter_o(normal),
        *_without_charges(normal),
        re.sub(r"(?<=[\d)\]]) ?[\-−–&] ?(?=\d*[A-Z(\[])", SEPARATOR, normal),
        re.sub(r"</?su[bp]>|[_$\\{}]|\^", "", normal),
        OXIDATION.sub("", normal),
        *_cased(normal),
    ]
    return list(dict.fromkeys(one for one in tries if one != text and _is_formula(one)))[:2]


def _is_formula(text: str) -> bool:
    try:
        _read(text)
    except (_NoFormulaError, InputError):
        return False
    return True


def _with_letter_o(text: str) -> list[str]:
    """Zeros that begin or follow a number as the letter, in Fe203 and SrTi03."""
    changed = re.sub(r"(?<![\d.])0(?!\.)|(?<=[1-9])0(?=\d?(?:\D|$))", "O", text)
    return [changed] if changed != text and _is_formula(changed) else []


def _without_charges(text: str) -> list[str]:
    """Without superscripts, and without signs after letters where one is a plus."""
    bare = unicodedata.normalize("NFKC", re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹]*[⁺⁻]", "", text))
    return [re.sub(r"(?<=[A-Za-z)\]])[+\-−–]", "", bare) if "+" in bare else bare]


def _with_small_letters(text: str) -> list[str]:
    """The compound that is probably meant by SIO2: its elements have oxidation numbers to match."""
    from pymatgen.core import Composition

    for other in _cased(text) if text.isupper() else ():
        counts = read_formula(other).counts if other != text and _is_formula(other) else {}
        if len(counts) > 1:
            return [other] if Composition(dict(counts)).oxi_state_guesses() else []
    return []


def _cased(text: str) -> list[str]:
    """Formulas that differ in capitals alone; one with fewer symbols first."""
    if len(text) > LONGEST_CASED or not text.isascii():
        return []
    found = islice(_splits(text.lower()), 50)
    return sorted(found, key=lambda formula: sum(c.isupper() for c in formula))


def _splits(text: str) -> Iterator[str]:
    if not text:
        yield ""
    for length in (2, 1):
        head = text[:length].capitalize()
        if len(text) >= length and (head in _lighter_elements() or (length == 1 and not head.isalpha())):
            for rest in _splits(text[length:]):
                yield head + rest
