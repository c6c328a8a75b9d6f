"""What a record names: causes of low counts and treatments, by their codes, else in words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from app.domain.chart import Cause, CauseKind
from app.fhir.causes import coded
from app.fhir.resources import Concept
from app.fhir.treatments import names_of

_CONDITION_WORDS: Final = {
    Cause.MYELODYSPLASIA: r"myelodyspla|(?<![a-z])mds(?![a-z])|mielodispl|骨髄異形成|骨髓增生异常"
    r"|refractory (?:an[ae]|cytop)",
    Cause.LEUKEMIA: r"(?<!anti)leuk[aeä]+mi|leuc[eé]mi|białaczk|白血病"
    r"|(?<![a-z])(?:aml|cml|apl|cmml|jmml)(?![a-z])",
    Cause.LYMPHOMA: r"lympho(?:me?s?(?![a-z])|ma)|linfoma|hodgkin|waldenstr|chłoniak"
    r"|リンパ腫|淋巴瘤",
    Cause.PLASMA_CELL_NEOPLASM: r"multiple myeloma|plasma cell|plasm[ao]cyt|mieloma m|my[ée]lome m"
    r"|plasmozytom|骨髄腫",
    Cause.MYELOFIBROSIS: r"myelofibro|mielofibro",
    Cause.FANCONI_ANEMIA: r"fanconi.?s? (?:pancyto|ana?em|an[äé]m)|fanconi-an[äa]mie"
    r"|an[aeäé]+mi[ae] (?:de |di )?fanconi",
    Cause.DYSKERATOSIS_CONGENITA: r"d[yi][sz][ck]h?eratos[ie]s congenita|zinsser|telomere biology",
    Cause.DIAMOND_BLACKFAN_ANEMIA: r"blackfan",
    Cause.SHWACHMAN_DIAMOND_SYNDROME: r"s[ch]*wachman",
    Cause.NOCTURNAL_HEMOGLOBINURIA: r"nocturnal ha?emoglobinuri|nächtliche h[äa]m"
    r"|h[ée]moglobinurie.{0,12}nocturne|parox[íi]stica nocturna|(?<![a-z])pnh(?![a-z])",
    Cause.HIV: r"(?<![a-z])(?:hiv|aids|sida|vih)(?![a-z])|immunodeficiency virus",
    Cause.HEPATITIS_B: r"hepatitis.{0,12}(?<![a-z])b(?![a-z])"
    r"|(?:h[ée]|e)patite.{0,12} b(?![a-z])",
    Cause.HEPATITIS_C: r"hepatitis.{0,12}(?<![a-z])c(?![a-z])"
    r"|(?:h[ée]|e)patite.{0,12} c(?![a-z])",
    Cause.PARVOVIRUS: r"parvovir|erythema infectiosum|fifth disease|ringelröteln",
    Cause.HEART_FAILURE_NYHA_3: r"nyha.{0,8}(?:iii|iv|3|4)(?![a-z0-9])"
    r"|new york heart.{0,40}class (?:iii|iv)(?![a-z])",
    Cause.HEART_FAILURE: r"heart failure|cardiac (?:failure|insufficiency)|herzinsuffizienz"
    r"|insuffisance cardiaque|insuficiencia card[íi]aca|scompenso cardiaco|(?<![a-z])chf(?![a-z])",
    Cause.PREGNANCY: r"pregnan(?:t|cy)|schwangerschaft|grossesse|embarazo|gravidanza|gravidez",
    Cause.CIRRHOSIS: r"(?:liver|hepatic|biliary|alcoholic).{0,20}cirrhosis|leberzirrhose|cirrhose"
    r"|cirrhosis of (?:the )?liver|cirr[oh]+s[ie]s? hep|cirrosi epat|cirrose hep",
    Cause.HYPERSPLENISM: r"hyperspleni|hipersplen|ipersplen",
    Cause.B12_DEFICIENCY: r"(?:b.?12|cobalamin).{0,20}(?:defic|mangel)|pernicious|perniziös"
    r"|biermer|(?:carence|d[ée]fici[te]\w*).{0,20}b.?12",
    Cause.FOLATE_DEFICIENCY: r"fol(?:ate|ic acid).{0,20}defic|fols[äa]uremangel"
    r"|carence.{0,12}folate",
    Cause.COPPER_DEFICIENCY: r"copper defic|hypocupr|kupfermangel",
}
_PROCEDURE_WORDS: Final = {
    Cause.TRANSPLANT: r"(?:stem.?cell|marrow|cord blood|progenitor).{0,24}"
    r"(?:transplant|infusion|rescue)|(?:stammzell|knochenmark)\w*.?transplant"
    r"|greffe.{0,20}(?:moelle|cellules|csh)|trasplante.{0,24}(?:m[ée]dula|progenitor)"
    r"|trapianto.{0,24}(?:midollo|staminal)|(?<![a-z])(?:allo|auto)?-?(?:hs?ct|bmt)(?![a-z])",
    Cause.CHEMOTHERAPY: r"chemother|chimioth|quimioter|chemioter|kjemoter|kemoter|化学療法"
    r"|antineoplastic (?:chemo|drug|therapy)",
    Cause.RADIOTHERAPY: r"radiother|radiation (?:therap|oncolog|treatment)|strahlenther"
    r"|bestrahlung|radioth[ée]rap|radioterap|total body irradiation|放射線治療",
}
TRANSPLANT_WORDS: Final = _PROCEDURE_WORDS[Cause.TRANSPLANT]
"""A pattern: what has none of these words is no stem-cell transplant by its words."""
_DRUG_NAMES: Final = {
    Cause.CHEMOTHERAPY: "cyclophosphamid, cytarabin, daunorubicin, doxorubicin, idarubicin, "
    "epirubicin, mitoxantron, etoposid, fludarabin, cladribin, clofarabin, busulfan, melphalan, "
    "thiotepa, treosulfan, carmustin, lomustin, bendamustin, chlorambucil, ifosfamid, dacarbazin, "
    "temozolomid, cisplatin, carboplatin, oxaliplatin, paclitaxel, docetaxel, vincristin, "
    "vinblastin, vinorelbin, gemcitabin, fluorouracil, capecitabin, irinotecan, topotecan, "
    "bleomycin, mitomycin, azacitidin, decitabin, venetoclax, mercaptopurin, thioguanin, "
    "tioguanin, hydroxyurea, hydroxycarbamid, asparaginas, bortezomib, lenalidomid, procarbazin, "
    "pentostatin",
    Cause.ANTITHYROID_DRUG: "carbimazol, thiamazol, methimazol, propylthiouracil, propiltiouracil",
    Cause.LINEZOLID: "linezolid, zyvox",
    Cause.CLOZAPINE: "clozapin, clozaril, leponex",
    Cause.OTHER_MARROW_POISON: "chloramphenicol, carbamazepin, phenytoin, felbamat, penicillamin, "
    "azathioprin, methotrexat, valganciclovir, ganciclovir, deferipron, auranofin, "
    "aurothiomalat, ticlopidin, zidovudin, mycophenol, colchicin",
    Cause.ANTITHYMOCYTE_GLOBULIN: "antithymocyte, anti-thymocyte, antilymphocyte, "
    "anti-lymphocyte, thymoglobulin, atgam, grafalon, antithymozyt, lymphoglobulin",
    Cause.CICLOSPORIN: "ciclosporin, cyclosporin, sandimmun, neoral",
    Cause.ELTROMBOPAG: "eltrombopag, promacta, revolade",
    Cause.ANDROGEN: "danazol, oxymetholon, stanozolol, nandrolon, methyltestosteron",
    Cause.ALEMTUZUMAB: "alemtuzumab, campath, lemtrada",
}
# An eye drop or an ointment reaches no marrow.
_LOCAL: Final = re.compile(
    r"ophthalm|(?<![a-z])eye|ocular|intravitreal|topical|ointment|cream|(?<![a-z])otic|salbe|augen"
)

_NOT_THEIRS: Final = re.compile(
    r"famil(?!ial)|(?<![a-z])f\.?h\.? of|fh:|(?<!hepatitis [bc] )carrier|screen|vaccin"
    r"|immuni[sz]ation|impf|contact|expos|donor|donation|spender|counsel"
    r"|pregnan\w* (?:test|prevent|planning)"
    r"|(?:test|planning|prevention|desire).{0,20}pregnan|non-?pregnant|antibod|antigen|prophyla"
    r"|risk of|at risk"
)
_DENIED_BEFORE: Final = re.compile(
    r"(?<![a-z])(?:no|not|non|without|negative for|denies|excluded:?|kein\w*|ohne|pas de|sin|senza)"
    r"(?: \w+){0,3}[ :]*$"
)
_DENIED_AFTER: Final = re.compile(r"ruled out|excluded|ausgeschlossen|exclu(?:e|ida)(?![a-z])")
_SUSPECTED: Final = re.compile(
    r"suspect|suspicion|rule.?out|(?<![a-z])r/o|possib|probab|query|questionable|v\. ?a\."
    r"|verdacht|soupçon|sospech|sospett|differential|(?<![a-z])dd(?![a-z])|\?"
)
_FORMERLY: Final = re.compile(
    r"(?<![a-z])(?:history of|h/o|past|former|previous|zustand nach|z\. ?n\.|antecedent"
    r"|antécédent|st\. ?p\.|status post|cured|in (?:complete )?remission)"
)


def _compiled(words: dict[Cause, str]) -> dict[Cause, re.Pattern[str]]:
    return {cause: re.compile(pattern) for cause, pattern in words.items()}


_OF_CONDITIONS: Final = _compiled(_CONDITION_WORDS | _PROCEDURE_WORDS)
_OF_PROCEDURES: Final = _compiled(_PROCEDURE_WORDS)
_OF_DRUGS: Final = {cause: tuple(names.split(", ")) for cause, names in _DRUG_NAMES.items()}


class Named(NamedTuple):
    """A cause that a concept names, and what its words make of it."""

    cause: Cause
    doubt: str = ""
    past: bool = False
    """Worded as something of the past."""


def named_by_condition(concept: Concept | None) -> tuple[Named, ...]:
    """The causes that a condition's concept names, by its codes, else by its words."""
    if concept is None:
        return ()
    texts = tuple(names_of(concept))
    doubt = "suspected" if any(_SUSPECTED.search(text) for text in texts) else ""
    past = any(_FORMERLY.search(text) for text in texts)
    causes = coded(concept) or _worded(texts, _OF_CONDITIONS)
    return tuple(Named(cause, doubt, past and not _for_life(cause)) for cause in causes)


def named_by_procedure(concept: Concept | None) -> tuple[Named, ...]:
    """The treatments that a procedure's concept names, by its codes, else by its words."""
    if concept is None:
        return ()
    texts = [text for text in names_of(concept) if not _NO_TREATMENT.search(text)]
    causes = coded(concept) or _worded(texts, _OF_PROCEDURES)
    return tuple(Named(cause) for cause in causes if cause.kind is CauseKind.TREATMENT)


def named_by_drug(concept: Concept | None) -> tuple[Named, ...]:
    """The drugs of the table that a medication's concept names, by its codes, else by its name."""
    if concept is None:
        return ()
    causes = coded(concept)
    texts = tuple(names_of(concept))
    if not causes and not any(_LOCAL.search(text) for text in texts):
        causes = [
            cause
            for cause, names in _OF_DRUGS.items()
            if any(name in text for text in texts for name in names)
        ]
    return tuple(Named(cause) for cause in causes if cause.kind in _OF_A_DRUG)


_OF_A_DRUG: Final = {CauseKind.DRUG, CauseKind.TREATMENT, CauseKind.IMMUNOSUPPRESSION}
_NO_TREATMENT: Final = re.compile(
    r"consult|planning|plan of|education|teaching|assess|evaluation|refus|declin|consent|work-?up"
    r"|harvest|collection|biops|aspirat|simulation|follow.?up|access|(?<![a-z])port(?![a-z])|catheter"
)


def _for_life(cause: Cause) -> bool:
    """Whether who ever had it has it: "history of HIV" is no past."""
    return cause.kind is CauseKind.MARROW_FAILURE or cause in {Cause.TRANSPLANT, Cause.HIV}


def _worded(texts: Iterable[str], words: dict[Cause, re.Pattern[str]]) -> list[Cause]:
    theirs = [text for text in texts if not _NOT_THEIRS.search(text)]
    found = [c for c, pattern in words.items() if any(_says(t, pattern) for t in theirs)]
    if Cause.HEART_FAILURE_NYHA_3 in found and Cause.HEART_FAILURE in found:
        found.remove(Cause.HEART_FAILURE)
    return found


def _says(text: str, pattern: re.Pattern[str]) -> bool:
    match = pattern.search(text)
    return (
        match is not None
        and not _DENIED_BEFORE.search(text[: match.start()])
        and not _DENIED_AFTER.search(text, match.end())
    )
