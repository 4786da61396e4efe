"""Profiles and settings from files, with the position of each fault."""
