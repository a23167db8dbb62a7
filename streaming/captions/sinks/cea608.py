"""CEA-608 characters and codes, as far as roll-up captions need them (ANSI/CTA-608-E).

Bytes are seven bits and odd parity. Codes are sent twice; a decoder drops the second of a pair.
"""

# ruff: noqa: RUF001  (tables of characters)

from __future__ import annotations

import unicodedata

ROLL_UP_2 = 0x1425
CARRIAGE_RETURN = 0x142D
ERASE_DISPLAYED = 0x142C
ROW_15 = 0x1470
COLUMNS = 32

_BASIC = {chr(c): c for c in range(0x20, 0x7F) if chr(c) not in "*\\^_`{|}~"}
_BASIC |= {"á": 0x2A, "é": 0x5C, "í": 0x5E, "ó": 0x5F, "ú": 0x60, "ç": 0x7B, "÷": 0x7C,
           "Ñ": 0x7D, "ñ": 0x7E}  # fmt: skip
_SPECIAL = dict(zip("®°½¿™¢£♪à", range(0x1130, 0x1139), strict=True))
_SPECIAL |= dict(zip("èâêîôû", range(0x113A, 0x1140), strict=True))
_EXTENDED = dict(zip("ÁÉÓÚÜü‘¡*’—©℠•“”ÀÂÇÈÊËëÎÏïÔÙùÛ«»", range(0x1220, 0x1240), strict=True))
_EXTENDED |= dict(zip("ÃãÍÌìÒòÕõ{}\\^_|~ÄäÖöß¥¤¦ÅåØø", range(0x1320, 0x133C), strict=True))
_LIKE = {"‘": "'", "’": "'", "“": '"', "”": '"', "—": "-", "ß": "s", "•": ".", "…": "...",
         "＆": "&", "＜": "<", "＞": ">", "（": "(", "）": ")", "＼": "/", "–": "-"}  # fmt: skip


def encodable(text: str) -> tuple[str, int]:
    """Return ``text`` in characters that CEA-608 has, and how many had no likeness and went.

    >>> encodable("naïve…ħ"), encodable("狗")
    (('naïve...', 1), ('', 1))
    """
    kept, lost = [], 0
    for char in text:
        if char in _BASIC or char in _SPECIAL or char in _EXTENDED:
            kept.append(char)
            continue
        plain = _LIKE.get(char) or "".join(
            c for c in unicodedata.normalize("NFKD", char) if c in _BASIC
        )
        kept.append(plain)
        lost += not plain and not unicodedata.category(char).startswith(("M", "C"))
    return "".join(kept), lost


def words_of(text: str) -> list[int]:
    """Return the two-byte words, without parity, that show encodable ``text``."""
    words: list[int] = []
    half = 0  # a first byte that waits for its second
    for char in text:
        if char in _BASIC:
            if half:
                words.append(half << 8 | _BASIC[char])
                half = 0
            else:
                half = _BASIC[char]
            continue
        code = _SPECIAL.get(char) or _EXTENDED[char]
        if char in _EXTENDED:  # takes the place of the likeness before it
            like = _BASIC[_like(char)]
            if half:
                words.append(half << 8 | like)
                half = 0
            else:
                words.append(like << 8)
        elif half:
            words.append(half << 8)
            half = 0
        words += [code, code]
    if half:
        words.append(half << 8)
    return words


def _like(char: str) -> str:
    plain = _LIKE.get(char) or unicodedata.normalize("NFKD", char)[:1]
    return plain if plain in _BASIC else "-"


def with_parity(word: int) -> str:
    """Return a word as four hexadecimal digits with odd parity in each byte.

    >>> with_parity(0x1425), with_parity(0x0041 << 8)
    ('9425', 'c180')
    """
    return "".join(
        f"{byte | (0x80 if bin(byte).count('1') % 2 == 0 else 0):02x}"
        for byte in (word >> 8, word & 0xFF)
    )
