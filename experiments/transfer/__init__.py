"""One policy edits networks and classes it never saw."""
