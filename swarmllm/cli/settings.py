"""From the flags of a command to a checked Config: `runtime.config.reading` with this machine's
environment and folders."""

from __future__ import annotations

import os

from swarmllm.adapters.datadir import default_folders
from swarmllm.cli.output import speak_json
from swarmllm.runtime.config import Config
from swarmllm.runtime.config.reading import load_config


def config_of(**flags: object) -> Config:
    """UsageError or LocalError if a setting, wherever it was found, makes no sense. With
    `log_format` json this command speaks JSON on standard error from now on."""
    config = load_config(flags, os.environ, default_folders())
    if config.log_format == "json":
        speak_json()
    return config
