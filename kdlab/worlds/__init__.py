"""Worlds: text whose truth is known, from a lexicon that a person can edit."""
