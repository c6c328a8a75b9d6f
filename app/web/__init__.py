"""The page for people, the explanations that cards link to, and what both are made of."""
