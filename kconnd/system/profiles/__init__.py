"""Reads profiles and settings from files, with the position of each fault."""
