"""How the hub names licences."""

from __future__ import annotations

import re

from autointerp.latents import AutointerpError

#: Those that the hub lists by these names; any other is told as ``other`` with its own name.
LISTED = frozenset(
    """
    agpl-3.0 apache-2.0 bsd bsd-2-clause bsd-3-clause bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0
    cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0
    cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1
    eupl-1.2 gemma gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 llama2 llama3 mit mpl-2.0
    odbl odc-by ofl-1.1 openrail pddl unknown unlicense wtfpl zlib
    """.split()  # noqa: SIM905 – as a list it is a page
)
LINKS = {"psf-2.0": "https://docs.python.org/3/license.html"}
UNKNOWN = "unknown"


def checked(license_id: str) -> str:
    """A licence's identifier, in small letters.

    Raises:
        AutointerpError: if it cannot be one.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", license_id):
        raise AutointerpError(
            f"{license_id!r} is not a licence's identifier; write one as in cc-by-4.0"
        )
    return license_id.lower()


def license_fields(license_id: str | None) -> dict[str, str]:
    """The fields of a card's head that tell the corpus's licence."""
    if license_id is None or license_id in LISTED:
        return {"license": license_id or UNKNOWN}
    link = {"license_link": LINKS[license_id]} if license_id in LINKS else {}
    return {"license": "other", "license_name": license_id, **link}


def in_words(license_id: str | None) -> str:
    """The same, for readers."""
    if license_id is None:
        return "The corpus's licence is not known; ask before you pass its texts on."
    link = f" (<{LINKS[license_id]}>)" if license_id in LINKS else ""
    return f"Texts of the corpus are under {license_id}{link}."
