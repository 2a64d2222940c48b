"""One run while it is read: runs, columns, vocabulary, statistics, cursors."""
