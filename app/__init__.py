"""maa-assess: whether blood counts meet a published definition of aplastic anemia."""

__version__ = "0.1.0"
