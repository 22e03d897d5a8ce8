"""Checks of a deployment, and how to fix what they find."""
