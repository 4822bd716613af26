"""The words of a text, as search knows them: one form for both databases, for what is stored and what is asked.

A word is a run of letters and digits, without case and accents. Scripts that are written without spaces, and pictures,
give a word for each character, so that any part of such a text is found as a phrase. The migration
`2026_11_25_search` has the same rules in Postgres' own language; tests compare the two.
"""

import re
from unicodedata import normalize

# So much of a message is searched, in characters, and so much of its words is kept; a longer word is cut.
LONGEST_TEXT, LONGEST_WORDS, LONGEST_WORD = 100_000, 200_000, 64

# Parts of regular expressions that Python's and Postgres' read alike. Accents, vowel points, joiners, variants:
STRIPPED = (
    r"\u00AD\u0300-\u036F\u0483-\u0489\u0591-\u05BD\u05BF\u05C1\u05C2\u05C4\u05C5\u05C7\u0610-\u061A\u0640\u064B-\u065F"
    r"\u0670\u06D6-\u06DC\u06DF-\u06E4\u06E7\u06E8\u06EA-\u06ED\u1AB0-\u1AFF\u1DC0-\u1DFF\u200C-\u200F\u202A-\u202E"
    r"\u2060-\u206F\u20D0-\u20FF\uFE00-\uFE0F\uFEFF\U000E0000-\U000E0FFF"
)
# Thai, Lao, Burmese, Khmer, kana, bopomofo, Han, Hangul; symbols and emoji:
SINGLE = (
    r"\u0E01-\u0E3A\u0E40-\u0E4E\u0E81-\u0EDF\u1000-\u1049\u1050-\u109F\u1780-\u17D3\u2600-\u27BF\u3005-\u3007"
    r"\u3041-\u309F\u30A1-\u30FA\u30FC-\u31BF\u31F0-\u31FF\u3400-\u4DBF\u4E00-\u9FFF\uA960-\uA97F\uAC00-\uD7FF"
    r"\uF900-\uFAFF\U0001F300-\U0001FAFF\U00020000-\U0003FFFF"
)
# Spaces, punctuation, signs, private use:
BETWEEN = (
    r"\u0001-/:-@\[-`\{-\u00A9\u00AB-\u00B4\u00B6-\u00B9\u00BB-\u00BF\u00D7\u00F7\u02C2-\u02C5\u02D2-\u02DF\u02E5-\u02EB"
    r"\u02ED\u02EF-\u02FF\u0375\u037E\u0387\u03F6\u0482\u055A-\u055F\u0589-\u058F\u05BE\u05C0\u05C3\u05C6\u05F3\u05F4"
    r"\u0600-\u060F\u061B-\u061F\u066A-\u066D\u06D4\u06DD\u06DE\u06E9\u06FD\u06FE\u0700-\u070F\u07F6-\u07F9\u0830-\u083E"
    r"\u0964\u0965\u0970\u09F2\u09F3\u0AF0\u0AF1\u0BF3-\u0BFA\u0DF4\u0E3F\u0E4F\u0E5A\u0E5B\u0F01-\u0F17\u0F1A-\u0F1F"
    r"\u0F34-\u0F3D\u0F85\u0FBE-\u0FDA\u104A-\u104F\u10FB\u1360-\u1368\u1390-\u1399\u1400\u166D\u166E\u1680\u169B\u169C"
    r"\u16EB-\u16ED\u1735\u1736\u17D4-\u17DB\u1800-\u180E\u1940-\u1945\u19DE-\u19FF\u2000-\u200B\u2010-\u2029"
    r"\u202F-\u205F\u207A-\u207E\u208A-\u208E\u20A0-\u20CF\u2100-\u2101\u2104-\u2106\u2108-\u2109\u2114\u2117\u2118"
    r"\u211E-\u2125\u2127\u2129\u212E\u213A\u213B\u2140-\u2144\u214A-\u214D\u214F\u218A-\u25FF\u27C0-\u2BFF"
    r"\u2CE5-\u2CEA\u2CF9-\u2CFF\u2E00-\u2E7F\u2E80-\u2FFF\u3000-\u3004\u3008-\u3020\u3030\u303D-\u3040\u30A0\u30FB"
    r"\u31C0-\u31EF\u3200-\u33FF\u4DC0-\u4DFF\uA490-\uA4CF\uA4FE\uA4FF\uA60D-\uA60F\uA673\uA67E\uA6F2-\uA6F7"
    r"\uA700-\uA716\uA720\uA721\uA789\uA78A\uA828-\uA82B\uA836-\uA839\uA874-\uA877\uA8CE\uA8CF\uA8F8-\uA8FA\uA8FC"
    r"\uA92E\uA92F\uA95F\uA9C1-\uA9CD\uA9DE\uA9DF\uAA5C-\uAA5F\uAADE\uAADF\uAAF0\uAAF1\uAB5B\uABEB\uE000-\uF8FF"
    r"\uFD3E-\uFD4F\uFDCF\uFDFC-\uFDFF\uFE10-\uFE6F\uFF01-\uFF0F\uFF1A-\uFF20\uFF3B-\uFF40\uFF5B-\uFF65\uFFE0-\uFFFF"
    r"\U00010100-\U00010102\U0001D000-\U0001D1FF\U0001F000-\U0001F2FF\U000F0000-\U0010FFFF"
)

_STRIPPED = re.compile(f"[{STRIPPED}]+")
_WORD = re.compile(rf"[{SINGLE}]|[^\x00{SINGLE}{BETWEEN}]+")
_ASCII = {number: (chr(number).lower() if chr(number).isalnum() else " ") for number in range(128)}


def fold(text: str) -> str:
    """The text's words in order, a space between two; "" for a text without any. Only its beginning is read."""
    text = text[:LONGEST_TEXT]
    if text.isascii():
        words = text.translate(_ASCII).split()
    else:
        plain = normalize("NFC", _STRIPPED.sub("", normalize("NFKD", text))).lower()
        words = _WORD.findall(plain.replace("ß", "ss").replace("ς", "σ"))
    return " ".join([word[:LONGEST_WORD] for word in words])[:LONGEST_WORDS].rstrip(" ")
