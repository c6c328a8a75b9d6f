"""The published definitions, a module each: data only. To add one, name it in its list here."""

from app.papers import (
    bsh,
    camitta_2000,
    camitta_severe,
    cibmtr_severe,
    emaa,
    howard_2004,
    japan_childhood,
    mhlw,
    nct00001962,
    nih_daclizumab_2003,
    nih_eltrombopag_2012,
    nih_prca_2003,
    nih_severe,
)
from app.papers.plugged import AnyPaper, plugged

SHIPPED = (
    nih_daclizumab_2003.PAPER,
    camitta_severe.SEVERE,
    camitta_severe.VERY_SEVERE,
    nih_severe.PAPER,
    bsh.PAPER,
    howard_2004.PAPER,
    emaa.PAPER,
    cibmtr_severe.PAPER,
    mhlw.PAPER,
    nih_prca_2003.PAPER,
)

SHIPPED_RESPONSES = (
    nih_daclizumab_2003.RESPONSE,
    camitta_2000.RESPONSE,
    nih_eltrombopag_2012.RESPONSE,
    nih_severe.RESPONSE,
    japan_childhood.RESPONSE,
)

STUDIES = (nct00001962.STUDY,)

_PLUGGED = plugged((*SHIPPED, *SHIPPED_RESPONSES))
PUBLISHED = (*SHIPPED, *_PLUGGED.papers)
"""What ships with the service, and what is installed beside it; the same of `RESPONSES`."""
RESPONSES = (*SHIPPED_RESPONSES, *_PLUGGED.responses)
EVERY: tuple[AnyPaper, ...] = (*PUBLISHED, *RESPONSES)
FAULTS = _PLUGGED.faults
"""Why the service does not start: a line for each plug-in that cannot be used."""
