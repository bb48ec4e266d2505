"""Files that a reader of the documentation is supposed to have, as small as can be."""
