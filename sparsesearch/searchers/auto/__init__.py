"""The default searcher: a model of the losses, solved and corrected by measurements."""
