"""Thin bridges from other trainers to `unlearn_`; import the one you need by its own name."""
