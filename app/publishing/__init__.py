"""What we publish of ourselves: definitions, terminology, profiles, CQL."""
