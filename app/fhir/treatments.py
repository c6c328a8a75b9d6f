"""Transfusions and drugs as hospitals write them: codes and words, and what each stands for.

A transfusion that goes unseen makes a responder of a patient who is still transfused, so words
count beside codes (ruling 1), and what says "transfusion" without saying of what may be of any
product.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple
from unicodedata import normalize

from app.domain.counts import Drug, Product
from app.fhir.resources import Concept

SNOMED: Final = "http://snomed.info/sct"
CPT: Final = "http://www.ama-assn.org/go/cpt"
_HCPCS: Final = "https://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets"
ICD_10_PCS: Final = "http://www.cms.gov/Medicare/Coding/ICD10"
RXNORM: Final = "http://www.nlm.nih.gov/research/umls/rxnorm"
ATC: Final = "http://www.whocc.no/atc"
ICD_10_CM: Final = "http://hl7.org/fhir/sid/icd-10-cm"
ICD_10: Final = "http://hl7.org/fhir/sid/icd-10"

# What systems are also called: by OID, over https, by addresses of older releases of FHIR.
SYSTEM_NAMES: Final[dict[str, str]] = {
    **dict.fromkeys(("snomed.info/sct", "urn:oid:2.16.840.1.113883.6.96"), SNOMED),
    **dict.fromkeys(("www.ama-assn.org/go/cpt", "urn:oid:2.16.840.1.113883.6.12"), CPT),
    **dict.fromkeys(
        (
            "www.cms.gov/medicare/coding/hcpcsreleasecodesets",
            "terminology.hl7.org/codesystem/hcpcs",
            "bluebutton.cms.gov/resources/codesystem/hcpcs",
            "urn:oid:2.16.840.1.113883.6.285",
        ),
        _HCPCS,
    ),
    **dict.fromkeys(
        (
            "www.cms.gov/medicare/coding/icd10",
            "hl7.org/fhir/sid/icd-10-pcs",
            "www.icd10data.com/icd10pcs",
            "urn:oid:2.16.840.1.113883.6.4",
        ),
        ICD_10_PCS,
    ),
    **dict.fromkeys(
        ("www.nlm.nih.gov/research/umls/rxnorm", "urn:oid:2.16.840.1.113883.6.88"), RXNORM
    ),
    **dict.fromkeys(
        (
            "www.whocc.no/atc",
            "fhir.de/codesystem/bfarm/atc",
            "fhir.de/codesystem/dimdi/atc",
            "urn:oid:2.16.840.1.113883.6.73",
        ),
        ATC,
    ),
    **dict.fromkeys(
        (
            "hl7.org/fhir/sid/icd-10-cm",
            "www.cdc.gov/nchs/icd/icd10cm",
            "urn:oid:2.16.840.1.113883.6.90",
        ),
        ICD_10_CM,
    ),
    # A national edition refines that of the WHO.
    **dict.fromkeys(
        (
            "hl7.org/fhir/sid/icd-10",
            "hl7.org/fhir/sid/icd-10-uk",
            "hl7.org/fhir/sid/icd-10-am",
            "fhir.de/codesystem/bfarm/icd-10-gm",
            "fhir.de/codesystem/dimdi/icd-10-gm",
            "urn:oid:2.16.840.1.113883.6.3",
            "urn:oid:1.2.276.0.76.5.311",
        ),
        ICD_10,
    ),
}

TRANSFUSIONS: Final[dict[tuple[str, str], Product]] = {
    (SNOMED, "116859006"): Product.UNKNOWN,
    (SNOMED, "116863004"): Product.RED_CELLS,
    (SNOMED, "71493000"): Product.RED_CELLS,
    (SNOMED, "12719002"): Product.PLATELETS,
    (SNOMED, "180207008"): Product.UNKNOWN,
    (CPT, "36430"): Product.UNKNOWN,
}
"""Procedures by system and code; unknown where the code does not say what was given."""

HCPCS_TRANSFUSIONS: Final[dict[tuple[str, str], Product]] = {
    (_HCPCS, code): product
    for product, codes in (
        # Whole blood, and what has no name of its own.
        (Product.UNKNOWN, "P9010 P9011 P9056 P9099"),
        (
            Product.RED_CELLS,
            "P9016 P9021 P9022 P9038 P9039 P9040 P9051 P9054 P9057 P9058",
        ),
        (
            Product.PLATELETS,
            "P9019 P9031 P9032 P9033 P9034 P9035 P9036 P9037 P9052 P9053 P9055 P9072 P9073",
        ),
    )
    for code in codes.split()
}
"""Blood products as they are charged in the United States, a unit each."""

# ICD-10-PCS: administration, circulatory, transfusion, then where and how, the sixth character
# what: N and P red cells, H whole blood, R platelets. Unverified: the table was not at hand.
PCS_TRANSFUSION: Final = re.compile(r"302[0-9A-Z]{2}([A-Z])[0-9A-Z]?")
PCS_PRODUCTS: Final = {
    "H": Product.UNKNOWN,
    "N": Product.RED_CELLS,
    "P": Product.RED_CELLS,
    "R": Product.PLATELETS,
}

DRUGS: Final[dict[tuple[str, str], Drug]] = {
    (RXNORM, "190353"): Drug.DACLIZUMAB,
    (RXNORM, "68442"): Drug.FILGRASTIM,
    (RXNORM, "338036"): Drug.PEGFILGRASTIM,
    (ATC, "L04AC01"): Drug.DACLIZUMAB,
    (ATC, "L03AA02"): Drug.FILGRASTIM,
    (ATC, "L03AA10"): Drug.LENOGRASTIM,
    (ATC, "L03AA13"): Drug.PEGFILGRASTIM,
    (ATC, "L03AA14"): Drug.LIPEGFILGRASTIM,
}

# The longer name comes first: a text with pegfilgrastim in it also holds filgrastim.
DRUG_NAMES: Final[dict[str, Drug]] = {
    name: drug
    for drug, names in (
        (Drug.LIPEGFILGRASTIM, "lipegfilgrastim, lonquex"),
        (
            Drug.PEGFILGRASTIM,
            "pegfilgrastim, neulasta, fulphila, udenyca, ziextenzo, nyvepria, fylnetra, stimufend, "
            "pelgraz, pelmeg, cegfila, grasustek, neupopeg, g-lasta",
        ),
        (Drug.LENOGRASTIM, "lenograstim, granocyte, neutrogin"),
        (
            Drug.FILGRASTIM,
            "filgrastim, neupogen, zarxio, zarzio, nivestym, nivestim, releuko, nypozi, granix, "
            "tevagrastim, ratiograstim, biograstim, accofil, grastofil, "
            "g-csf, gcsf, granulocyte colony, granulocyte-colony",
        ),
        (Drug.DACLIZUMAB, "daclizumab, zenapax, zinbryta"),
    )
    for name in names.split(", ")
}
"""Lower-case names to search a text for, in this order; the first found is meant (ruling 16)."""

_LONGEST_NAME: Final = 200

SAYS_TRANSFUSION: Final = re.compile(r"trans?fu[sz]|trasfu[sz]|輸血|输血")
SAYS_RED_CELLS: Final = re.compile(
    r"red (?:blood )?cell|(?<![a-z])p?rbcs?(?![a-z])|(?<![a-z])lprbc|packed (?:blood )?cell"
    r"|[eé]rythro[cz]yt|er[iy]tro[cs][iy]t|globules? rouges?|hemat[ií]es|hem[aá]cias|emazie"
    r"|gl[oó]bulos (?:rojos|vermelhos)|krwinek czerwonych|赤血球|红细胞|紅血球"
)
SAYS_PLATELETS: Final = re.compile(
    r"platelet|thrombo[cz]yt|trombo[cs][iy]t|plaquet|piastrin|krwinek płytkowych|血小板"
)
MAY_BE_TRANSFUSIONS: Final = "|".join(
    (SAYS_TRANSFUSION.pattern, SAYS_RED_CELLS.pattern, SAYS_PLATELETS.pattern, "whole blood")
)
"""A pattern: what has none of these words is no transfusion by its words."""
SAYS_OTHER_PRODUCT: Final = re.compile(
    r"plasma|(?<![a-z])ffp(?![a-z])|cryoprec|albumin|globulin|granulo[cz]yt|leu[ck]o[cz]yt"
    r"|lympho[cz]yt|stem cell|fibrinogen|(?<![a-z])factor (?:[vix]+|concentrate)"
)
# A product's name is a product given where it is a concentrate, a bag or a unit of it.
SAYS_A_PRODUCT: Final = re.compile(
    r"[ck]on[cz]entr|packed|apheres|aferes|aférès|leu[ck]o\w*.?(?:re|de)|pooled|irradiated|washed"
    r"|(?<![a-z])units?(?![a-z])|(?<![a-z])p?rbcs?(?![a-z])|infusion|administration"
)
SAYS_NO_TRANSFUSION: Final = re.compile(
    r"reaction|cross.?match(?!ed)|consent|consult|counsel|refus|declin|histor|compatib|thaw"
    r"|pre.?transfusion|before transfusion|request|order for|prescri"
)
# "Red cells transfused, no reaction" is a transfusion.
SAYS_NO_REACTION: Final = re.compile(r"(?<![a-z])(?:no|without|nil) (?:\w+ ){0,3}reactions?")
SAYS_NO_PRODUCT: Final = re.compile(
    r"count|antibod|antigen|anti.?platelet|anti.?thrombo|inhibit|aggregat|function|sediment|morpholog"
    r"|rich plasma|folate|smear|enzyme|survival|scan|label|fragil|distribution|width|volume|mean"
    r"|collection|donation|donor apheresis|growth factor|erythropoie|exchange of plasma"
    r"|[cz]ytop[eoé]n|[cz]ytos|[cz]yth?emi|erythrodermi"
)


class Transfused(NamedTuple):
    """What a concept says was transfused."""

    product: Product | None
    """None for a product that bears on none of the counts judged, such as plasma."""


def transfused(concept: Concept | None, is_medication: bool = False) -> Transfused | None:
    """What was transfused, by codes and then by words; None where it is no transfusion.

    A medication's name is a product given; a procedure's must speak of a transfusion or of a
    concentrate, since "platelet count" is a procedure too.
    """
    if concept is None:
        return None
    by_code = {found for pair in codings_of(concept) if (found := _by_code(*pair))}
    known = by_code - {Product.UNKNOWN}
    if len(known) == 1:
        return Transfused(known.pop())
    if len(known) > 1:
        return Transfused(Product.UNKNOWN)
    words = [one for text in names_of(concept) if (one := _by_words(text, is_medication))]
    named = {one.product for one in words} - {None, Product.UNKNOWN}
    if len(named) == 1:
        return Transfused(named.pop())
    if named or by_code:
        return Transfused(Product.UNKNOWN)
    return next((w for w in words if w.product is None), words[0]) if words else None


def _by_code(system: str, code: str) -> Product | None:
    known = system_of(system)
    if known == ICD_10_PCS:
        match = PCS_TRANSFUSION.fullmatch(code.replace(".", "").upper())
        return PCS_PRODUCTS.get(match.group(1)) if match else None
    if known is None:
        return None
    return TRANSFUSIONS.get((known, code)) or HCPCS_TRANSFUSIONS.get((known, code))


def _by_words(text: str, is_medication: bool) -> Transfused | None:
    text = SAYS_NO_REACTION.sub("", text)
    said = bool(SAYS_TRANSFUSION.search(text))
    if said and SAYS_NO_TRANSFUSION.search(text):
        return None
    if not said and SAYS_NO_PRODUCT.search(text):
        return None
    red, platelets = bool(SAYS_RED_CELLS.search(text)), bool(SAYS_PLATELETS.search(text))
    if not said and not ((red or platelets) and (is_medication or SAYS_A_PRODUCT.search(text))):
        whole = "whole blood" in text and is_medication
        return Transfused(Product.UNKNOWN) if whole else None
    if red != platelets:
        return Transfused(Product.RED_CELLS if red else Product.PLATELETS)
    if not red and SAYS_OTHER_PRODUCT.search(text):
        return Transfused(None)
    return Transfused(Product.UNKNOWN)


def drug_of(concept: Concept | None) -> Drug | None:
    """The drug a concept names, by code and then by name; None for one that bears on no count."""
    if concept is None:
        return None
    for system, code in codings_of(concept):
        drug = DRUGS.get((system_of(system) or "", code))
        if drug:
            return drug
    for text in names_of(concept):
        for name, drug in DRUG_NAMES.items():
            if name in text:
                return drug
    return None


def codings_of(concept: Concept) -> Iterator[tuple[str, str]]:
    """Each system and code of a concept that has both."""
    for coding in concept.coding:
        if coding.system and coding.code:
            yield coding.system, coding.code.strip()


def system_of(address: str) -> str | None:
    """The code system that an address of it means, by the name it has here."""
    return SYSTEM_NAMES.get(_plain(address))


def _plain(system: str) -> str:
    """A system's address without what is said of it in many ways; a version of it is the same."""
    text = system.strip().lower().removeprefix("https://").removeprefix("http://").rstrip("/")
    return "snomed.info/sct" if text.startswith("snomed.info/sct/") else text


def names_of(concept: Concept) -> Iterator[str]:
    """What a concept says in words, in lower case and cut to a length."""
    for text in (concept.text, *(coding.display for coding in concept.coding)):
        if text:
            yield normalize("NFKC", text[:_LONGEST_NAME]).lower()
