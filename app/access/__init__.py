"""Who may call, what for, how often, and what is written down of it."""
