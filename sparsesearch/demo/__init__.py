"""The embedded default: a small language model of Python source code and the text it is used with."""
