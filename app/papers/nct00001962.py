"""The protocol under which NIH gave daclizumab for bone marrow failure (NCT00001962)."""

from app.domain.paper import Study
from app.papers import nih_daclizumab_2003, nih_prca_2003

STUDY = Study(
    id="NCT00001962",
    title="Recombinant humanized anti-IL-2 receptor antibody (daclizumab) in moderate aplastic "
    "anemia",
    condition="Moderate aplastic anemia",
    description="Pilot trial of the National Institutes of Health (National Heart, Lung, and Blood "
    "Institute): 17 patients, 16 evaluable, 6 responded. The same protocol had an arm for pure red "
    "cell aplasia. Published to document the definition's source: daclizumab is withdrawn from the "
    "market.",
    status="completed",
    arm="Daclizumab 1 mg/kg every 2 weeks for 3 months",
    end_point="Hematologic response in at least one affected blood value",
    sponsors_id="00-H-0029",
    papers=(nih_daclizumab_2003.PAPER, nih_prca_2003.PAPER),
    warning="Daclizumab is withdrawn from the market: this is no suggestion to give it.",
)
