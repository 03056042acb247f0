"""Under which licences a student, its teacher and its data stand, as far as somebody said so."""

import re
from collections.abc import Mapping

from tutelage.core.errors import RecipeError

UNKNOWN = "not stated"

ROLES = ("student", "teacher", "data")
"""Whose licences a card names; the option is ``--licence-ROLE``."""

# Identifiers of the Hub's metadata that people use for models and data; others go by a name.
_NAMES = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsl-1.0 cc cc-by-2.0
cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0
cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 epl-1.0 epl-2.0
eupl-1.1 eupl-1.2 gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 mit mpl-2.0 ms-pl odbl
odc-by openrail pddl postgresql unlicense wtfpl zlib
"""
_KNOWN = frozenset(_NAMES.split())


def hub_licence(text: str) -> dict[str, str]:
    """A licence in the keys of Hugging Face's metadata; nothing where none is stated.

    Args:
        text: An identifier (SPDX's, as the Hub writes it in small letters), or a name in words.

    >>> hub_licence("MIT"), hub_licence("By hand, CC0"), hub_licence("")
    ({'license': 'mit'}, {'license': 'other', 'license_name': 'by-hand-cc0'}, {})
    """
    plain = " ".join(text.split())
    if not plain or plain.startswith(UNKNOWN):
        return {}
    if plain.lower() in _KNOWN:
        return {"license": plain.lower()}
    name = re.sub(r"[^a-z0-9.]+", "-", plain.lower()).strip("-.")[:60] or "unnamed"
    return {"license": "other", "license_name": name}


def unknown(role: str) -> str:
    """What a card says of a licence that nobody stated, and how to state it."""
    return f"{UNKNOWN} (`tutelage package --licence-{role} NAME` states it)"


def with_licences(card: str, stated: Mapping[str, str]) -> str:
    """A model card in which licences that were not stated are.

    Args:
        card: With a line ``- Teacher: not stated``, and likewise for student and data.
        stated: Licences by role (`ROLES`).

    Raises:
        RecipeError: The card states another already, or has no such line; or a licence is no line
            of text.
    """
    for role, licence in stated.items():
        plain = _line(role, licence)
        card = _stated(card, role.capitalize(), role, plain)
        if role == "student":
            card = _headed(card, plain)
    return card


def with_data_licence(card: str, stated: Mapping[str, str]) -> str:
    """The same for the card of the data, which has one line: ``- Licence: not stated``.

    Raises:
        RecipeError: As above.
    """
    if "data" not in stated:
        return card
    plain = _line("data", stated["data"])
    return _headed(_stated(card, "Licence", "data", plain), plain)


def _stated(card: str, label: str, role: str, licence: str) -> str:
    found = re.search(rf"^- {label}: (.*)$", card, re.MULTILINE)
    if found is None:
        raise RecipeError(
            f"--licence-{role}: the card has no line '- {label}: {UNKNOWN}': write it there by "
            "hand, or leave the option out."
        )
    before = found[1].strip()
    if before.startswith(UNKNOWN):
        return f"{card[: found.start(1)]}{licence}{card[found.end(1) :]}"
    if before != licence:
        raise RecipeError(
            f"--licence-{role}: got {licence!r}, and the card states {before!r:.100}: leave the "
            "option out, or mend the card."
        )
    return card


def _headed(card: str, licence: str) -> str:
    """The licence in the head as well, where the head has none."""
    head, mark, body = card.removeprefix("---\n").partition("\n---\n")
    if not card.startswith("---\n") or not mark or re.search(r"^license:", head, re.MULTILINE):
        return card
    lines = [f"{key}: {value}" for key, value in hub_licence(licence).items()]
    return "\n".join(["---", *lines, head]) + mark + body


def _line(role: str, licence: str) -> str:
    plain = licence.strip()
    if not plain or len(plain) > 200 or len(plain.splitlines()) > 1 or role not in ROLES:
        raise RecipeError(f"--licence-{role}: got {licence!r:.80}, expected a name in one line.")
    return plain.replace("|", "\\|").replace("<", "&lt;")
