"""Who a DICOM header is of: people are told apart by ID, name, birth date and sex together, as far as these are given.

A placeholder such as "ANON" or "0000" is nobody's: two that share it may be two people.
"""

import re

from pydicom.dataset import Dataset

from synthct.images.dicom.headers import text

TAGS = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
SEXES = "mfo"
PLACEHOLDER = re.compile(
    r"anon.*|unknown|unbekannt|none|null|nil|na|nn|no(name|id)|not?(available|given|known)|de?identified"
    r"|removed|redacted|hidden|patient|dummy|test|phantom|x+|0+"
)
TELLING = 3  # letters of an ID or a name that give a patient away within a longer word


def person(header: Dataset) -> dict[str, str]:
    """What a header says of its patient, by tag, as small letters and digits; a tag that says nothing is left away.

    The words of a name are sorted: "Doe^Jane" is "Jane Doe".
    """
    given = {tag: text(header, tag) for tag in TAGS}
    said = {tag: words(one) for tag, one in given.items()}
    said["PatientName"] = words(given["PatientName"].split("=")[0])
    said["PatientSex"] = [one[:1] for one in said["PatientSex"] if one[:1] in SEXES]
    told = {tag: parts for tag, parts in said.items() if parts and not _nothing(parts)}
    return {tag: " ".join(sorted(parts)) if tag == "PatientName" else "".join(parts) for tag, parts in told.items()}


def words(said: str) -> list[str]:
    """The runs of letters and digits, in small letters.

    >>> words("Doe^Jane_4711")
    ['doe', 'jane', '4711']
    """
    return re.findall(r"[^\W_]+", said.casefold())


def known_by(one: dict[str, str]) -> set[tuple[str, str]]:
    """ID and name, where they are no placeholders: what makes two series one person's by itself."""
    return {(tag, one[tag]) for tag in TAGS[:2] if tag in one and not _placeholder(one[tag].split())}


def difference(persons: list[dict[str, str]]) -> str:
    """The first tag of which two of the persons have different values, or ""."""
    return next((tag for tag in TAGS if len({one[tag] for one in persons if tag in one}) > 1), "")


def gives_away(directory: str, one: dict[str, str]) -> bool:
    """Whether a directory is called as its patient: ID or name, in whatever order, or a part of them that tells."""
    called, letters = words(directory), "".join(words(directory))
    number, names = one.get("PatientID", ""), one.get("PatientName", "").split()
    telling = [part for part in (number, *names) if len(part) >= TELLING]
    return letters == number or sorted(called) == names or any(part in letters for part in telling)


def _placeholder(parts: list[str]) -> bool:
    return bool(PLACEHOLDER.fullmatch("".join(parts))) or all(PLACEHOLDER.fullmatch(part) for part in parts)


def _nothing(parts: list[str]) -> bool:
    """Whether it is a placeholder for all patients alike: "ANON", and not "ANON017"."""
    return _placeholder(parts) and not re.search("[1-9]", "".join(parts))
