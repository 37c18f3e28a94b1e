"""A node's settings: declared once (`table`), read from wherever they may stand (`reading`), shown
(`showing`)."""

from swarmllm.runtime.config.setting import Folders
from swarmllm.runtime.config.table import SETTINGS, Config

__all__ = ["SETTINGS", "Config", "Folders"]
