"""Prompts as functions: a body that stays hot, and calls that leave nothing behind."""
