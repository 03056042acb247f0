"""Watching a served model: drift against its reference, alarms of a stated rate, and policies."""
