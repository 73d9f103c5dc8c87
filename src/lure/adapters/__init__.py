"""Thin bridges from other trainers to `unlearn_`; each is imported by its own name, and only where it is used."""
