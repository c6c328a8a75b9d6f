"""CDS Hooks 2.0: the answer as a card in the clinician's workflow."""
