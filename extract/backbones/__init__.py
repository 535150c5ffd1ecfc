"""Frozen backbones: the contract they keep, and one module per kind of input (text, vision, paired)."""

from extract.backbones.contract import Backbone, ImageTower, JointTower, Pair, TextTower, Tokens

__all__ = ["Backbone", "ImageTower", "JointTower", "Pair", "TextTower", "Tokens"]
