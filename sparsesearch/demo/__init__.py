"""The embedded default: a small language model of Python source code, and its text."""
