"""Launchers: the ways in which a kernel can be started and controlled."""
