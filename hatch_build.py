"""Builds the wheel under a name of its own, `maa_assess`: a folder named `app` is everybody's.

In an installed environment another distribution's `app` would overwrite ours, and a folder `app`
where a command is run would hide it. The checkout keeps its short name, and knows the other too.
"""

import re
import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_OURS = re.compile(r"^(\s*)from app(?=[. ])", re.MULTILINE)
_ALSO = '''import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.util import spec_from_loader

import app

NAME = __name__


class Same(MetaPathFinder, Loader):
    """Whoever imports a part of the package by the wheel's name gets the checkout's own module."""

    def find_spec(self, name, path=None, target=None):
        return spec_from_loader(name, self) if name.startswith(NAME + ".") else None

    def create_module(self, spec):
        module = import_module("app" + spec.name.removeprefix(NAME))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module):
        # What stands in it has run already, under its own name, which it keeps.
        module.__spec__ = module.__spec__.loader_state


sys.meta_path.insert(0, Same())
sys.modules[NAME] = app
'''


class Renamed(BuildHookInterface[Any]):
    """The wheel's only content: the package, renamed; in the checkout a second name for it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write what goes into the wheel, and say where it is."""
        built = Path(self.root, "build", "wheel")
        shutil.rmtree(built, ignore_errors=True)
        if version == "editable":
            built.mkdir(parents=True)
            (built / "maa_assess.py").write_text(_ALSO, "utf-8")
            build_data["force_include_editable"][str(built)] = "/"
            return
        ours = built / "maa_assess"
        shutil.copytree(Path(self.root, "app"), ours, ignore=shutil.ignore_patterns("__pycache__"))
        for module in ours.rglob("*.py"):
            source = module.read_text("utf-8")
            module.write_text(_OURS.sub(r"\1from maa_assess", source), "utf-8")
        build_data["force_include"][str(built)] = "/"
