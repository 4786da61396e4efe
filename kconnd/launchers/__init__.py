"""The homes that a kernel can have."""
