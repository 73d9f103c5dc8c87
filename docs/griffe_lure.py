"""How the site reads our docstrings: an "Example" is shown as code, and a setting by its default alone (mkdocs.yml)."""

from typing import Any

import griffe


class AsWritten(griffe.Extension):
    """Two small corrections of what griffe, the reader of mkdocstrings, takes from the source."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Read `Example:` as the section that griffe calls `Examples:`; else its doctest is read as running text."""
        if obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Show `setting(0.2, "meaning", 0, 1)` as 0.2."""
        if isinstance(attr.value, griffe.ExprCall) and str(attr.value.function) == "setting":
            attr.value = attr.value.arguments[0]
