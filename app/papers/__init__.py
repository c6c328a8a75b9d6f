"""The published definitions, a module each: data only. To add one, name it in PUBLISHED."""

from app.papers import (
    bsh,
    camitta_severe,
    emaa,
    howard_2004,
    nih_daclizumab_2003,
    nih_severe,
)

PUBLISHED = (
    nih_daclizumab_2003.PAPER,
    camitta_severe.SEVERE,
    camitta_severe.VERY_SEVERE,
    nih_severe.PAPER,
    bsh.PAPER,
    howard_2004.PAPER,
    emaa.PAPER,
)
