"""Augmented views: seeded renderings of a picture or a text that keep its label."""
