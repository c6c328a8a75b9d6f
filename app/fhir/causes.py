"""Other causes of low counts, and treatments that a definition excludes, by their codes.

Each row has its source. A row that was not seen in one is marked, as an unverified paper is: it is
read all the same, for a leukemia that goes unseen is worse than one too many to look at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from app.domain.chart import Cause
from app.fhir.resources import Concept
from app.fhir.treatments import (
    ATC,
    CPT,
    ICD_10,
    ICD_10_CM,
    ICD_10_PCS,
    RXNORM,
    SNOMED,
    codings_of,
    system_of,
)

_CM: Final = "ICD-10-CM 2025, tabular list (CMS)"
_WHO: Final = "ICD-10 of the WHO, as in GNU Health 5.0"
_PCS: Final = "ICD-10-PCS, as in GNU Health 5.0"
_CPIC: Final = "CPIC's table of drugs (RxNorm and ATC)"
_WHOCC: Final = "ATC index (WHO Collaborating Centre), seen with its name in published drug tables"
_CIBMTR: Final = "CIBMTR Reporting IG, value sets of RxNorm"
_ONCOLOGY: Final = "cqframework dQM CMS 2026, value set chemo-radiation-breast-resection"
_SEEN: Final = "SNOMED CT, seen with its name in published FHIR value sets"
_CLINVAR: Final = "SNOMED CT, as NCBI ClinVar refers to it (MedGen C0015625)"
_PEDIATRIC: Final = "NAPKON pediatrics, value set medical-history-stem-cell-transplant"
_NOT_SEEN: Final = "not seen in a source of ours"


class CauseRow(NamedTuple):
    """A code, or every code below it, and the cause that it names."""

    system: str
    code: str
    display: str
    cause: Cause
    source: str
    below: bool = False
    """Whether what begins with the code is meant too."""

    @property
    def verified(self) -> bool:
        """Whether the code was seen with its meaning in a source."""
        return self.source != _NOT_SEEN


def _rows(
    system: str, source: str, cause: Cause, codes: str, below: bool = False
) -> Iterator[CauseRow]:
    """Rows of one cause, written as `code display; code display`."""
    for one in codes.split("; "):
        code, _, display = one.partition(" ")
        yield CauseRow(system, code, display, cause, source, below)


_ICD_ROWS: Final = (
    (Cause.MYELODYSPLASIA, "D46 Myelodysplastic syndromes"),
    (
        Cause.LEUKEMIA,
        "C91 Lymphoid leukemia; C92 Myeloid leukemia; C93 Monocytic leukemia; C94 Other leukemias "
        "of specified cell type; C95 Leukemia of unspecified cell type; C90.1 Plasma cell leukemia",
    ),
    (
        Cause.LYMPHOMA,
        "C81 Hodgkin lymphoma; C82 Follicular lymphoma; C83 Non-follicular lymphoma; C84 Mature "
        "T/NK-cell lymphomas; C85 Other and unspecified non-Hodgkin lymphoma; C86 Other specified "
        "types of T/NK-cell lymphoma; C88 Malignant immunoproliferative diseases",
    ),
    (Cause.PLASMA_CELL_NEOPLASM, "C90 Multiple myeloma and malignant plasma cell neoplasms"),
    (Cause.OTHER_INHERITED_FAILURE, "D61.0 Constitutional aplastic anemia"),
    (Cause.NOCTURNAL_HEMOGLOBINURIA, "D59.5 Paroxysmal nocturnal hemoglobinuria"),
    (Cause.HIV, "B20 HIV disease; Z21 Asymptomatic HIV infection status"),
    (
        Cause.HEPATITIS_B,
        "B16 Acute hepatitis B; B18.0 Chronic viral hepatitis B with delta-agent; B18.1 Chronic "
        "viral hepatitis B without delta-agent",
    ),
    (Cause.HEPATITIS_C, "B17.1 Acute hepatitis C; B18.2 Chronic viral hepatitis C"),
    (
        Cause.PARVOVIRUS,
        "B34.3 Parvovirus infection, unspecified; B97.6 Parvovirus as the cause of diseases "
        "classified elsewhere; B08.3 Erythema infectiosum [fifth disease]",
    ),
    (
        Cause.HEART_FAILURE,
        "I50 Heart failure; I11.0 Hypertensive heart disease with heart failure",
    ),
    (Cause.PREGNANCY, "Z33 Pregnant state; Z34 Supervision of normal pregnancy"),
    (
        Cause.CIRRHOSIS,
        "K70.3 Alcoholic cirrhosis of liver; K74.3 Primary biliary cirrhosis; K74.4 Secondary "
        "biliary cirrhosis; K74.5 Biliary cirrhosis, unspecified; K74.6 Other and unspecified "
        "cirrhosis of liver",
    ),
    (Cause.HYPERSPLENISM, "D73.1 Hypersplenism"),
    (Cause.B12_DEFICIENCY, "D51 Vitamin B12 deficiency anemia"),
    (Cause.FOLATE_DEFICIENCY, "D52 Folate deficiency anemia"),
    (Cause.COPPER_DEFICIENCY, "E61.0 Copper deficiency"),
    (Cause.TRANSPLANT, "T86.0 Complications of bone marrow transplant"),
    (Cause.RADIOTHERAPY, "Z51.0 Radiotherapy session"),
)
"""Categories of ICD-10, with all below them, that mean the same in both editions."""

_ICD_10_CM_ROWS: Final = (
    (Cause.MYELOFIBROSIS, "D47.4 Osteomyelofibrosis; D75.81 Myelofibrosis"),
    (Cause.DIAMOND_BLACKFAN_ANEMIA, "D61.01 Constitutional (pure) red blood cell aplasia"),
    (Cause.SHWACHMAN_DIAMOND_SYNDROME, "D61.02 Shwachman-Diamond syndrome"),
    (Cause.FANCONI_ANEMIA, "D61.03 Fanconi anemia"),
    (Cause.HEPATITIS_B, "B19.1 Unspecified viral hepatitis B"),
    (Cause.HEPATITIS_C, "B19.2 Unspecified viral hepatitis C"),
    (Cause.PREGNANCY, "O09 Supervision of high risk pregnancy"),
    (
        Cause.TRANSPLANT,
        "Z94.81 Bone marrow transplant status; Z94.84 Stem cells transplant status",
    ),
    # What national editions have at D70.1 is any drug's.
    (
        Cause.CHEMOTHERAPY,
        "Z51.11 Encounter for antineoplastic chemotherapy; D61.810 Antineoplastic chemotherapy "
        "induced pancytopenia; D64.81 Anemia due to antineoplastic chemotherapy; D70.1 "
        "Agranulocytosis secondary to cancer chemotherapy",
    ),
)
_ICD_10_ROWS: Final = (
    (Cause.HIV, "B21 HIV disease; B22 HIV disease; B23 HIV disease; B24 HIV disease"),
    (Cause.PREGNANCY, "Z35 Supervision of high-risk pregnancy"),
    (Cause.CHEMOTHERAPY, "Z51.1 Chemotherapy session for neoplasm"),
)


def _conditions() -> Iterator[CauseRow]:
    for system, source, own in (
        (ICD_10_CM, _CM, _ICD_10_CM_ROWS),
        (ICD_10, _WHO, _ICD_10_ROWS),
    ):
        for cause, codes in (*_ICD_ROWS, *own):
            yield from _rows(system, source, cause, codes, below=True)
    for cause, source, codes in (
        (Cause.MYELODYSPLASIA, _SEEN, "109995007 Myelodysplastic syndrome"),
        (Cause.LEUKEMIA, _SEEN, "93143009 Leukemia; 91861009 Acute myeloid leukemia"),
        (Cause.LEUKEMIA, _NOT_SEEN, "91857003 Acute lymphoid leukemia"),
        (Cause.LYMPHOMA, _SEEN, "118600007 Malignant lymphoma"),
        (Cause.PLASMA_CELL_NEOPLASM, _SEEN, "109989006 Multiple myeloma"),
        (Cause.FANCONI_ANEMIA, _CLINVAR, "30575002 Fanconi anemia"),
        (Cause.DYSKERATOSIS_CONGENITA, _NOT_SEEN, "74911008 Dyskeratosis congenita"),
        (Cause.DIAMOND_BLACKFAN_ANEMIA, _NOT_SEEN, "88854002 Diamond-Blackfan anemia"),
        (Cause.SHWACHMAN_DIAMOND_SYNDROME, _NOT_SEEN, "89454001 Shwachman syndrome"),
        (
            Cause.NOCTURNAL_HEMOGLOBINURIA,
            _NOT_SEEN,
            "1963002 Paroxysmal nocturnal hemoglobinuria",
        ),
        (Cause.HIV, _SEEN, "86406008 Human immunodeficiency virus infection"),
        (Cause.HEPATITIS_B, _SEEN, "66071002 Viral hepatitis type B"),
        (Cause.HEPATITIS_C, _SEEN, "50711007 Viral hepatitis type C"),
        (Cause.HEART_FAILURE, _SEEN, "84114007 Heart failure"),
        (
            Cause.HEART_FAILURE_NYHA_3,
            _SEEN,
            "420913000 New York Heart Association Classification - Class III; "
            "422293003 New York Heart Association Classification - Class IV",
        ),
        (Cause.PREGNANCY, _SEEN, "77386006 Pregnancy"),
        (Cause.CIRRHOSIS, _SEEN, "19943007 Cirrhosis of liver"),
        (Cause.B12_DEFICIENCY, _SEEN, "190634004 Vitamin B12 deficiency"),
        (
            Cause.TRANSPLANT,
            _PEDIATRIC,
            "2631000119108 History of bone marrow transplant; "
            "153351000119102 History of peripheral stem cell transplant",
        ),
    ):
        yield from _rows(SNOMED, source, cause, codes)


def _procedures() -> Iterator[CauseRow]:
    yield from _rows(
        SNOMED,
        _SEEN,
        Cause.TRANSPLANT,
        "234336002 Hemopoietic stem cell transplant; 23719005 Transplantation of bone marrow",
    )
    yield from _rows(SNOMED, _ONCOLOGY, Cause.CHEMOTHERAPY, "367336001 Chemotherapy")
    yield from _rows(
        SNOMED, _ONCOLOGY, Cause.RADIOTHERAPY, "108290001 Radiation oncology AND/OR radiotherapy"
    )
    yield from _rows(
        CPT,
        "CPT, seen with its name in published tables of transplant codes",
        Cause.TRANSPLANT,
        "38240 Allogeneic HPC transplantation; 38241 Autologous HPC transplantation",
    )
    yield from _rows(
        CPT,
        _NOT_SEEN,
        Cause.CHEMOTHERAPY,
        "9640 Chemotherapy injection; 9641 Chemotherapy infusion; 9642 Chemotherapy, "
        "intra-arterial; 9644 Chemotherapy into a cavity; 9645 Chemotherapy, intrathecal",
        below=True,
    )
    yield from _rows(
        CPT, _NOT_SEEN, Cause.RADIOTHERAPY, "7740 Radiation treatment delivery", below=True
    )


_ATC_ROWS: Final = (
    (Cause.CHEMOTHERAPY, "L01 Antineoplastic agents", True),
    (Cause.ANTITHYROID_DRUG, "H03B Antithyroid preparations", True),
    (Cause.LINEZOLID, "J01XX08 linezolid", False),
    (Cause.CLOZAPINE, "N05AH02 clozapine", False),
    (
        Cause.OTHER_MARROW_POISON,
        "J01BA01 chloramphenicol; N03AF01 carbamazepine; N03AB02 phenytoin; N03AX10 felbamate; "
        "M01CC01 penicillamine; L04AX01 azathioprine; L04AX03 methotrexate; "
        "J05AB14 valganciclovir; V03AC02 deferiprone",
        False,
    ),
    (
        Cause.ANTITHYMOCYTE_GLOBULIN,
        "L04AA03 antilymphocyte immunoglobulin (horse); L04AA04 antithymocyte immunoglobulin "
        "(rabbit)",
        False,
    ),
    (Cause.CICLOSPORIN, "L04AD01 ciclosporin", False),
    (Cause.ELTROMBOPAG, "B02BX05 eltrombopag", False),
    (Cause.ANDROGEN, "G03XA01 danazol; A14AA05 oxymetholone", False),
)

_RXNORM_ROWS: Final = (
    (
        Cause.CHEMOTHERAPY,
        _CIBMTR,
        "3002 cyclophosphamide; 3041 cytarabine; 4179 etoposide; 24698 fludarabine; 1828 busulfan; "
        "6718 melphalan; 10473 thiotepa; 38508 treosulfan; 40048 carboplatin; 44151 clofarabine; "
        "5657 ifosfamide; 6466 lomustine; 8011 pentostatin; 12574 gemcitabine; "
        "134547 bendamustine",
    ),
    (
        Cause.CHEMOTHERAPY,
        _CPIC,
        "2555 cisplatin; 32592 oxaliplatin; 4492 fluorouracil; 194000 capecitabine; "
        "51499 irinotecan; 3995 epirubicin; 103 mercaptopurine; 10485 thioguanine",
    ),
    (Cause.CHEMOTHERAPY, _NOT_SEEN, "3639 doxorubicin; 11202 vincristine; 5552 hydroxyurea"),
    (
        Cause.ANTITHYROID_DRUG,
        _CPIC,
        "6835 methimazole; 2020 carbimazole; 8794 propylthiouracil",
    ),
    (Cause.LINEZOLID, _NOT_SEEN, "190376 linezolid"),
    (Cause.CLOZAPINE, _CPIC, "2626 clozapine"),
    (
        Cause.OTHER_MARROW_POISON,
        _CPIC,
        "2348 chloramphenicol; 2002 carbamazepine; 8183 phenytoin; 1256 azathioprine; "
        "6851 methotrexate",
    ),
    (
        Cause.ANTITHYMOCYTE_GLOBULIN,
        _CIBMTR,
        "1011 lymphocyte immune globulin, anti-thymocyte globulin; "
        "91601 lymphocyte immune globulin, anti-thymocyte globulin, equine",
    ),
    (Cause.CICLOSPORIN, _CPIC, "3008 cyclosporine"),
    (Cause.ELTROMBOPAG, _CPIC, "711942 eltrombopag"),
)


def _drugs() -> Iterator[CauseRow]:
    for cause, codes, below in _ATC_ROWS:
        yield from _rows(ATC, _WHOCC, cause, codes, below)
    for cause, source, codes in _RXNORM_ROWS:
        yield from _rows(RXNORM, source, cause, codes)


CONDITIONS: Final = tuple(_conditions())
PROCEDURES: Final = tuple(_procedures())
DRUGS: Final = tuple(_drugs())
CAUSE_ROWS: Final = (*CONDITIONS, *PROCEDURES, *DRUGS)
"""Every code that names a cause."""

# ICD-10-PCS by its pattern: what is given into the circulation (G bone marrow, X stem cells of cord
# blood, Y hematopoietic stem cells), an antineoplastic that is introduced, and radiation therapy.
PCS_PATTERNS: Final = (
    (re.compile(r"302[0-9A-Z]{2}[GXY][0-9A-Z]"), Cause.TRANSPLANT, _PCS),
    (re.compile(r"3E0[0-9A-Z]{2}05"), Cause.CHEMOTHERAPY, _PCS),
    (re.compile(r"D[0-9A-Z]{6}"), Cause.RADIOTHERAPY, _PCS),
)

_SHORTEST: Final = 3


def _undotted(system: str, code: str) -> str:
    return code.replace(".", "") if system in {ICD_10_CM, ICD_10} else code


_BY_CODE: Final = {(row.system, _undotted(row.system, row.code)): row for row in CAUSE_ROWS}


def coded(concept: Concept) -> list[Cause]:
    """The causes that a concept's codes name."""
    found = (_by_code(system, code) for system, code in codings_of(concept))
    return list(dict.fromkeys(cause for cause in found if cause))


def _by_code(system: str, code: str) -> Cause | None:
    known = system_of(system)
    if known is None:
        return None
    code = code.upper()
    if known == ICD_10_PCS:
        plain = code.replace(".", "")
        return next((c for pattern, c, _ in PCS_PATTERNS if pattern.fullmatch(plain)), None)
    code = _undotted(known, code)
    row = _BY_CODE.get((known, code))
    # The longest code that this one lies below.
    for length in range(len(code) - 1, _SHORTEST - 1, -1):
        if row is not None:
            break
        above = _BY_CODE.get((known, code[:length]))
        row = above if above and above.below else None
    return row.cause if row else None
