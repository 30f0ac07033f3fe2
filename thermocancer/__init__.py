"""thermocancer: breast thermograms from download to a report a reviewer can trust."""

__version__ = "0.1.0"
